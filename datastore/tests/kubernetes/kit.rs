//! The kit, over both of Calico's groups.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ocicat_datastore::model::Namespace;
use ocicat_datastore::testing::backend_kit::{self, Fixture};
use ocicat_datastore::testing::kubernetes::ApiServer;
use ocicat_datastore::{
    ApiGroup, Backend, Kind, Kubernetes, KubernetesOptions, Metadata, Scope, Store, StoreError,
};

/// Makes the namespaces that the kit writes to.
pub(crate) async fn prepare(store: Kubernetes) {
    let store = Store::new(Arc::new(store));
    for name in ["kit-a", "kit-b"] {
        let namespace = Namespace {
            metadata: Metadata::named(name),
            ..Namespace::default()
        };
        match store.create(namespace).await {
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

struct Double {
    server: ApiServer,
    group: ApiGroup,
}

#[async_trait]
impl Fixture for Double {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(self.server.store_in(Some(self.group.clone())))
    }

    async fn compact(&self) -> bool {
        self.server.compact();
        true
    }

    fn keeps_unknown_fields(&self) -> bool {
        false
    }
}

fn report(result: Result<(), Vec<backend_kit::Failure>>) {
    if let Err(failures) = result {
        let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_double_passes_the_kit() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let server = ApiServer::with_calico(&group);
        prepare(server.store()).await;
        report(backend_kit::run(&Double { server, group }).await);
    }
}

/// A real API server, which has the definitions of both groups.
struct Real {
    kubeconfig: PathBuf,
    group: ApiGroup,
}

impl Real {
    fn store(&self) -> Kubernetes {
        let mut options = KubernetesOptions::default();
        options.kubeconfig = Some(self.kubeconfig.clone());
        options.group = Some(self.group.clone());
        Kubernetes::new(options).expect("a kubeconfig")
    }
}

#[async_trait]
impl Fixture for Real {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(self.store())
    }

    /// Only by its etcd, and not even then where it serves watches from memory.
    async fn compact(&self) -> bool {
        let Some(etcd) = std::env::var_os("OCICAT_TEST_KUBERNETES_ETCD") else {
            return false;
        };
        let store = self.store();
        let namespaces = Scope::all(Kind::Namespace);
        let now = store.list(&namespaces).await.expect("a listing").revision;
        let status = std::process::Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(etcd)
            .args(["compact", &now.to_string()])
            .status();
        assert!(status.expect("etcdctl runs").success());
        true
    }

    fn keeps_unknown_fields(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OCICAT_TEST_KUBECONFIG, and our definitions of both groups applied there"]
async fn a_real_api_server_passes_the_kit() {
    let kubeconfig = std::env::var_os("OCICAT_TEST_KUBECONFIG");
    let kubeconfig = PathBuf::from(kubeconfig.expect("OCICAT_TEST_KUBECONFIG names a kubeconfig"));
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let real = Real {
            kubeconfig: kubeconfig.clone(),
            group,
        };
        prepare(real.store()).await;
        report(backend_kit::run(&real).await);
    }
}
