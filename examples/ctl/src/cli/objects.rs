//! The arguments of the verbs that work on objects: `get`, `apply`, `delete`, ...

use std::path::PathBuf;

use clap::Args;

/// Where a namespace is taken from.
#[derive(Clone, Debug, Args)]
pub struct InNamespace {
    /// The namespace; `default` when absent.
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Which objects: by kind and names, or by files that name them.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The kind, such as `ippool`, `gnp`, `wep`; or `KIND/NAME`; `get` takes several, `ippools,gnp`.
    #[arg(required_unless_present = "filename")]
    pub kind: Option<String>,
    /// The names.
    pub names: Vec<String>,
    /// Files, folders, or `-` for standard input, that name the objects.
    #[arg(short, long, conflicts_with = "kind")]
    pub filename: Vec<PathBuf>,
    /// The namespace.
    #[command(flatten)]
    pub namespace: InNamespace,
}

/// `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Which objects; all of the kind when none is named.
    #[command(flatten)]
    pub chosen: Chosen,
    /// Objects of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects whose labels match, in Calico's selector language or Kubernetes'.
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Go on printing objects as they change.
    #[arg(short, long)]
    pub watch: bool,
    /// Without what belongs to this cluster alone (uid, creation time, resourceVersion, status), so that `create` and `apply`
    /// take it elsewhere; YAML unless -o says otherwise.
    #[arg(long)]
    pub export: bool,
}

/// What is done about fields that a kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Validation {
    /// They are errors.
    #[default]
    #[value(alias = "true")]
    Strict,
    /// They are named on standard error.
    Warn,
    /// Nothing: for objects of a newer version, whose fields are kept as they are.
    #[value(alias = "false")]
    Ignore,
}

/// How files are read.
#[derive(Clone, Copy, Debug, Args)]
pub struct Strictness {
    /// What is done about fields that a kind does not have, `blocksize` for `blockSize`. Strict as in kubectl and calicoctl, for
    /// a policy whose misspelt field is passed over allows or denies what nobody meant.
    #[arg(
        long,
        value_enum,
        default_value_t,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "strict"
    )]
    pub validate: Validation,
}

/// Files of objects.
#[derive(Debug, Args)]
pub struct Files {
    /// Files, folders (with all that is in them), or `-` for standard input; several documents in each.
    #[arg(short, long, required = true)]
    pub filename: Vec<PathBuf>,
    /// How they are read.
    #[command(flatten)]
    pub strictness: Strictness,
    /// The namespace of objects that state none.
    #[command(flatten)]
    pub namespace: InNamespace,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// The objects.
    #[command(flatten)]
    pub files: Files,
    /// Wait until this node's agent (and those at --socket) has them in the kernel.
    #[arg(long)]
    pub wait: bool,
    /// Further control sockets of agents to wait for.
    #[arg(long, requires = "wait")]
    pub socket: Vec<PathBuf>,
    /// How long to wait, seconds.
    #[arg(long, default_value_t = 30, requires = "wait")]
    pub timeout: u64,
}

/// `patch`.
#[derive(Debug, Args)]
pub struct Patch {
    /// The kind, or `KIND/NAME`.
    pub kind: String,
    /// The name.
    pub name: Option<String>,
    /// The patch, JSON or YAML: a merge patch (RFC 7396), or with --type json a list of operations (RFC 6902).
    #[arg(short, long)]
    pub patch: String,
    /// What the patch is.
    #[arg(short = 't', long = "type", value_enum, default_value_t)]
    pub form: PatchForm,
    /// What is done about fields that the patch adds.
    #[command(flatten)]
    pub strictness: Strictness,
    /// The namespace.
    #[command(flatten)]
    pub namespace: InNamespace,
}

/// What a patch is.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum PatchForm {
    /// Members replace members, null removes (RFC 7396).
    #[default]
    Merge,
    /// A list of operations (RFC 6902).
    Json,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Which objects.
    #[command(flatten)]
    pub chosen: Chosen,
    /// One that is not there is no error.
    #[arg(long)]
    pub skip_not_exists: bool,
}

/// `label`.
#[derive(Debug, Args)]
pub struct Label {
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// `KEY=VALUE` to set, `KEY-` to remove.
    #[arg(required = true)]
    pub labels: Vec<String>,
    /// Remove the labels that are named, each by its key.
    #[arg(long, conflicts_with = "overwrite")]
    pub remove: bool,
    /// Change labels that have another value.
    #[arg(long)]
    pub overwrite: bool,
    /// The namespace.
    #[command(flatten)]
    pub namespace: InNamespace,
}
