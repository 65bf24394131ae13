//! From arguments to what is done.

use clap::CommandFactory;

use crate::cli::{Cli, Command, Datastore, Global};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::write::Verb;
use crate::{change, connectivity, files, get, ipam, node, policy, trace, whole, write};

/// Does what the arguments say, on a runtime of one thread.
///
/// # Errors
/// Why it was not done; the message is complete, and [`Failure::code`] is the exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(dispatch(cli.global, cli.command));
    // A thread that waits for an answer from the network is not waited for.
    runtime.shutdown_background();
    done
}

async fn dispatch(global: Global, command: Command) -> Result<(), Failure> {
    let format = global.output.format();
    if global.output.is_shaped() && !matches!(command, Command::Get(_)) {
        let text = "-o custom-columns and -o jsonpath are for `get`";
        return Err(Failure::Usage(text.into()));
    }
    match command {
        Command::Completion { shell } => {
            let mut out = std::io::stdout();
            clap_complete::generate(shell, &mut Cli::command(), "ocicatctl", &mut out);
            Ok(())
        }
        Command::Validate(args) => validate(&global, &args, format),
        Command::Convert(args) => convert(&args, format),
        Command::Node(command) => node::run(&global, command).await,
        Command::Policy(command) => policy::run(&global, command).await,
        Command::Connectivity(command) => connectivity::run(&global, command).await,
        Command::Version => whole::version::run(&global).await,
        command => with_store(&global, command).await,
    }
}

/// The commands that need the datastore.
async fn with_store(global: &Global, command: Command) -> Result<(), Failure> {
    let at = Connection::open(global)?;
    let format = global.output.format();
    match command {
        Command::Get(args) => get::run(&at, &args, &global.output).await,
        Command::Create(args) => write::run(&at, &args, Verb::Create, format).await.map(drop),
        Command::Replace(args) => write::run(&at, &args, Verb::Replace, format)
            .await
            .map(drop),
        Command::Apply(args) => {
            let written = write::run(&at, &args.files, Verb::Apply, format).await?;
            if args.wait {
                write::wait(&global.run, &args, &written, format)?;
            }
            Ok(())
        }
        Command::Patch(args) => change::patch(&at, &args, format).await,
        Command::Label(args) => change::label(&at, &args, format).await,
        Command::Delete(args) => write::delete(&at, &args, format).await,
        Command::Ipam(command) => ipam::run(&at, command, format).await,
        Command::Trace(args) => trace::run(&at, global, &args).await,
        Command::Datastore(Datastore::Migrate(command)) => {
            whole::migrate::run(&at, command, format).await
        }
        // Done without a datastore.
        Command::Completion { .. }
        | Command::Validate(_)
        | Command::Convert(_)
        | Command::Node(_)
        | Command::Policy(_)
        | Command::Connectivity(_)
        | Command::Version => Ok(()),
    }
}

/// Reads files as if they were to be applied.
fn validate(global: &Global, args: &crate::cli::Files, format: Format) -> Result<(), Failure> {
    let kubernetes = crate::connection::url(global).is_ok_and(|url| url.starts_with("kubernetes:"));
    let namespace = args.namespace.namespace.as_deref();
    let strict = args.strictness.validate;
    for manifest in files::read(&args.filename, kubernetes, namespace, strict)? {
        write::say(&manifest.object.key(), "valid", format);
    }
    Ok(())
}

/// Prints what a store without Kubernetes would keep of files, as YAML unless another format is asked for.
fn convert(args: &crate::cli::Files, format: Format) -> Result<(), Failure> {
    let namespace = args.namespace.namespace.as_deref();
    let read = files::read(&args.filename, false, namespace, args.strictness.validate)?;
    let objects: Vec<_> = read.into_iter().map(|manifest| manifest.object).collect();
    let format = match format {
        Format::Table => Format::Yaml,
        other => other,
    };
    println!("{}", output::objects(&objects, format, objects.len() == 1)?);
    Ok(())
}
