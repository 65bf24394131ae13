//! The Kubernetes API as a store.

mod connection;
mod custom;
mod failure;
mod group;
mod list;
mod node;
mod place;
mod pod;
mod profile;
mod records;
mod split;
mod watch;
mod write;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use self::connection::{Call, Connection, Target};
use self::failure::Asked;
use self::group::Seen;
use self::place::{Found, Place};
use crate::backend::{Backend, Listing, Op, Parts, Watch};
use crate::error::StoreError;
use crate::group::ApiGroup;
use crate::join;
use crate::model::Kind;
use crate::object::{Key, Object, Revision, Scope};

/// How long a listing may wait so that not everybody lists at the same moment.
const SPREAD: Duration = Duration::from_secs(1);

/// How to reach a cluster; the default is what `kubectl` would use, or the service account in a pod.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KubernetesOptions {
    /// The kubeconfig; when none `KUBECONFIG`, in a pod its service account, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one when none.
    pub context: Option<String>,
    /// The group of Calico's objects; found out when none.
    pub group: Option<ApiGroup>,
}

/// The Kubernetes API as a [`Backend`]: Calico's objects as custom resources, pods as their endpoints, nodes with Calico's
/// annotations, namespaces and service accounts as profiles, and Kubernetes' own kinds as they are.
///
/// - Revisions are resource versions. Lists come in pages of 500, and are decoded object by object as their bytes come;
///   four requests for lists and watches wait for an answer at a time. `managedFields` are left out.
/// - Blocks, affinities and handles are deleted as Calico does it: marked by compare-and-swap, then removed if they still have
///   their UID and version; what is marked counts as gone.
/// - A [`Kind::WorkloadEndpoint`] is a pod that is on a node; writing one notes its addresses and container on the pod, and
///   deleting it removes the notes. A [`Kind::Node`] is written as annotations. A [`Kind::Profile`] cannot be written. A
///   [`Kind::KubeNode`] is written through its status, which takes annotations and labels too, but no `spec`.
/// - An update that changes nothing gets a new revision all the same, but for Kubernetes' own kinds.
/// - 429 and 503 with `Retry-After` are waited for (three times, up to 10 s each); everything else that may help later is
///   [`StoreError::Unavailable`] at once.
///
/// Calls need a tokio runtime with time and I/O; the connection is made by the first.
pub struct Kubernetes {
    api: Arc<Api>,
}

/// What all calls and watches share.
struct Api {
    connection: Connection,
    url: String,
    wanted: Option<ApiGroup>,
    group: OnceCell<ApiGroup>,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("url", &self.api.url)
            .field("group", &self.api.group.get())
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// A store in the cluster that these options name.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the kubeconfig cannot be read, or there is none.
    pub fn new(options: KubernetesOptions) -> Result<Self, StoreError> {
        let path = options.kubeconfig.as_deref();
        let url = match path {
            Some(path) => format!("kubernetes:{}", path.display()),
            None => "kubernetes:".to_owned(),
        };
        match Target::find(path, options.context) {
            Ok(target) => Ok(Self::to(target, url, options.group)),
            Err(reason) => Err(StoreError::Open { url, reason }),
        }
    }

    fn to(target: Target, url: String, wanted: Option<ApiGroup>) -> Self {
        Self {
            api: Arc::new(Api {
                connection: Connection::new(target),
                url,
                wanted,
                group: OnceCell::new(),
            }),
        }
    }

    /// A store in a server in this process.
    #[cfg(feature = "apiserver")]
    pub(crate) fn here(client: kube::Client, group: Option<ApiGroup>) -> Self {
        Self::to(Target::Here(client), "kubernetes:".to_owned(), group)
    }

    /// The group of Calico's objects in this cluster. Found out once, when it is first needed.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKind`] when the cluster has no definitions of Calico's kinds, [`StoreError::Open`] when objects
    /// were written to both groups, and those of [`Backend::get`].
    pub async fn group(&self) -> Result<ApiGroup, StoreError> {
        self.api.group().await.cloned()
    }
}

impl Api {
    async fn group(&self) -> Result<&ApiGroup, StoreError> {
        self.group.get_or_try_init(|| self.find_group()).await
    }

    async fn find_group(&self) -> Result<ApiGroup, StoreError> {
        if let Some(group) = &self.wanted {
            return Ok(group.clone());
        }
        let (v1, v3) = (ApiGroup::v1(), ApiGroup::v3());
        let (mut seen_v1, mut seen_v3) = (Seen::default(), Seen::default());
        seen_v1.served = self.answers(format!("/apis/{v1}")).await?;
        seen_v3.served = self.answers(format!("/apis/{v3}")).await?;
        if seen_v3.served {
            let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools";
            seen_v3.defined = self.answers(format!("{definition}.{}", v3.name())).await?;
        }
        if seen_v1.served && seen_v3.defined {
            seen_v1.written = self.is_written(&v1).await?;
            seen_v3.written = self.is_written(&v3).await?;
        }
        group::choose(&self.url, seen_v1, seen_v3)?.ok_or_else(|| StoreError::NoSuchKind {
            kind: Kind::IpPool,
            reason: format!(
                "the cluster defines neither {v1} nor {v3}; apply examples/deploy/crds"
            ),
        })
    }

    /// Whether there is anything at a path.
    async fn answers(&self, path: String) -> Result<bool, StoreError> {
        let asked = Asked {
            verb: "get",
            resource: &path,
            kind: Kind::IpPool,
            key: None,
            revision: Revision::NONE,
        };
        match self.connection.call(&Call::get(path.clone())).await? {
            Ok(_) => Ok(true),
            Err(status) if status.code == 404 => Ok(false),
            Err(status) => Err(asked.refused(&status)),
        }
    }

    /// Whether a group has objects that only somebody who uses it makes.
    async fn is_written(&self, group: &ApiGroup) -> Result<bool, StoreError> {
        for kind in [Kind::IpPool, Kind::IpamBlock, Kind::ClusterInformation] {
            let place = Place::custom(kind, group);
            let uri = format!("{}?limit=1", place.collection(None));
            match self.connection.call(&Call::get(uri)).await? {
                Ok(body) => {
                    let listed: Value = serde_json::from_slice(&body).unwrap_or_default();
                    if listed["items"]
                        .as_array()
                        .is_some_and(|items| !items.is_empty())
                    {
                        return Ok(true);
                    }
                }
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(asked("list", &place, None).refused(&status)),
            }
        }
        Ok(false)
    }

    /// Where objects of a kind lie.
    async fn places(&self, kind: Kind) -> Result<Vec<Place>, StoreError> {
        let fixed = Place::fixed(kind);
        if !fixed.is_empty() {
            return Ok(fixed);
        }
        let group = self.group().await.map_err(|error| match error {
            StoreError::NoSuchKind { reason, .. } => StoreError::NoSuchKind { kind, reason },
            error => error,
        })?;
        Ok(vec![Place::custom(kind, group)])
    }

    /// The place of an object, and what it is stored as; `None` when nothing can be stored under its key.
    async fn place(&self, key: &Key) -> Result<Option<(Place, Stored)>, StoreError> {
        let places = self.places(key.kind).await?;
        let found = places.into_iter().find_map(|place| {
            let stored = place.stored_name(key)?;
            Some((place, stored))
        });
        Ok(found)
    }

    /// What is stored, as it is; `None` when there is nothing.
    async fn read(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
    ) -> Result<Option<Value>, StoreError> {
        match self.connection.call(&Call::get(place.path(stored))).await? {
            Ok(body) => json(place, key, &body).map(Some),
            Err(status) if status.is_missing_object() => Ok(None),
            Err(status) => Err(asked("get", place, Some(key)).refused(&status)),
        }
    }
}

/// Namespace and name of what an object is stored as.
type Stored = (Option<String>, String);

fn asked<'a>(verb: &'static str, place: &'a Place, key: Option<&'a Key>) -> Asked<'a> {
    Asked {
        verb,
        resource: &place.resource,
        kind: place.kind,
        key,
        revision: Revision::NONE,
    }
}

fn json(place: &Place, key: &Key, body: &[u8]) -> Result<Value, StoreError> {
    serde_json::from_slice(body).map_err(|error| StoreError::Malformed {
        key: key.clone(),
        field: format!("(answer for {})", place.resource),
        reason: error.to_string(),
    })
}

/// The version of what the API server sent.
fn version(value: &Value) -> Revision {
    let text = value.pointer("/metadata/resourceVersion");
    let number = text
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    number.map_or(Revision::NONE, Revision)
}

#[async_trait]
impl Backend for Kubernetes {
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        key.check()?;
        let Some((place, stored)) = self.api.place(key).await? else {
            return Ok(None);
        };
        let Some(value) = self.api.read(&place, key, &stored).await? else {
            return Ok(None);
        };
        match place.read(value.clone()) {
            Found::Object(object) if object.key() == *key => Ok(Some(object)),
            Found::Deleted(found) if found == *key => {
                self.api.remove(&place, &stored, &value).await;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        self.api.list(scope, None).await
    }

    async fn list_since(&self, scope: &Scope, oldest: Revision) -> Result<Listing, StoreError> {
        self.api.connection.spread(SPREAD).await;
        match self.api.list(scope, Some(oldest)).await {
            // That revision is not here yet, or the cluster was restored from a backup.
            Err(StoreError::Compacted { .. }) => self.api.list(scope, None).await,
            answer => answer,
        }
    }

    async fn list_in_parts(&self, scope: &Scope, oldest: Revision) -> Result<Parts, StoreError> {
        self.api.connection.spread(SPREAD).await;
        match self.api.parts(scope, Some(oldest)).await {
            Err(StoreError::Compacted { .. }) => self.api.parts(scope, None).await,
            answer => answer,
        }
    }

    /// Operations on different objects are sent side by side.
    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        join::by_object(ops, |op| Box::pin(self.api.operate(op))).await
    }

    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError> {
        let mut watches = Vec::new();
        for place in self.api.places(scope.kind).await? {
            if place.may_hold(scope) {
                watches.push(watch::open(&self.api, place, scope, since).await?);
            }
        }
        Ok(watch::merged(watches, since))
    }

    async fn describe(&self) -> Result<String, StoreError> {
        let group = self.group().await?;
        Ok(format!("{} ({group})", self.api.url))
    }
}
