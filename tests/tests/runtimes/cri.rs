//! A client of the Container Runtime Interface, kubelet's side of containerd: the few calls and fields that starting a
//! pod takes, by their numbers in `runtime.v1`.

use std::collections::HashMap;
use std::path::Path;

use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::image;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxSandbox {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<SandboxSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct PortMapping {
    #[prost(int32, tag = "1")]
    protocol: i32,
    #[prost(int32, tag = "2")]
    container_port: i32,
    #[prost(int32, tag = "3")]
    host_port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<SandboxMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, repeated, tag = "5")]
    ports: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// An id, as most requests and answers have it.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct NetworkStatus {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<NetworkStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<SandboxStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct Listed {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSync {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecAnswer {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub(crate) struct CriPod {
    pub(crate) sandbox: String,
    pub(crate) container: String,
    pub(crate) ip: String,
}

/// A connection to a containerd.
pub(crate) struct Cri {
    channel: Channel,
    runtime: tokio::runtime::Runtime,
}

impl Cri {
    /// Connects to the socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://containerd");
        let channel = runtime
            .block_on(endpoint.connect_with_connector(connector))
            .map_err(|error| format!("containerd: {error:?}"))?;
        Ok(Self { channel, runtime })
    }

    fn call<Q, A>(&self, name: &'static str, question: Q) -> Result<A, String>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{name}");
        let path: PathAndQuery = path.parse().unwrap();
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        self.runtime
            .block_on(async {
                let unready = |error| tonic::Status::unavailable(format!("{error:?}"));
                client.ready().await.map_err(unready)?;
                let codec = tonic_prost::ProstCodec::<Q, A>::default();
                client
                    .unary(tonic::Request::new(question), path, codec)
                    .await
            })
            .map(tonic::Response::into_inner)
            .map_err(|status| format!("{name}: {}", status.message()))
    }

    /// Whether it answers at all.
    pub(crate) fn version(&self) -> Result<(), String> {
        self.call::<_, Empty>("Version", Empty {}).map(drop)
    }

    /// Starts a pod of namespace `shop` that runs a shell command. `host_port` leads to its port 80.
    pub(crate) fn pod(
        &self,
        name: &str,
        script: &str,
        host_port: Option<i32>,
    ) -> Result<CriPod, String> {
        let config = sandbox(name, host_port);
        let run = RunSandbox {
            config: Some(config.clone()),
        };
        let sandbox = self.call::<_, Id>("RunPodSandbox", run)?.id;
        let status = Id {
            id: sandbox.clone(),
        };
        let status: SandboxStatusAnswer = self.call("PodSandboxStatus", status)?;
        let network = status.status.and_then(|status| status.network);
        let create = CreateContainer {
            sandbox: sandbox.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: "main".to_owned(),
                }),
                image: Some(Id {
                    id: image::NAME.to_owned(),
                }),
                command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            }),
            sandbox_config: Some(config),
        };
        let container = self.call::<_, Id>("CreateContainer", create)?.id;
        let start = Id {
            id: container.clone(),
        };
        self.call::<_, Empty>("StartContainer", start)?;
        Ok(CriPod {
            sandbox,
            container,
            ip: network.unwrap_or_default().ip,
        })
    }

    /// Runs a shell command in a pod: exit code and output.
    pub(crate) fn exec(&self, pod: &CriPod, script: &str) -> Result<(i32, String), String> {
        let answer: ExecAnswer = self.call(
            "ExecSync",
            ExecSync {
                container: pod.container.clone(),
                command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
                seconds: 10,
            },
        )?;
        let output = [answer.stdout, answer.stderr].concat();
        let text = String::from_utf8_lossy(&output).into_owned();
        Ok((answer.exit_code, text))
    }

    /// Stops and removes a pod, as kubelet does.
    pub(crate) fn remove(&self, pod: &CriPod) -> Result<(), String> {
        let id = Id {
            id: pod.sandbox.clone(),
        };
        self.call::<_, Empty>("StopPodSandbox", id.clone())?;
        self.call::<_, Empty>("RemovePodSandbox", id).map(drop)
    }

    /// The ids of every sandbox.
    pub(crate) fn sandboxes(&self) -> Result<Vec<String>, String> {
        let listed: Listed = self.call("ListPodSandbox", Empty {})?;
        Ok(listed.items.into_iter().map(|one| one.id).collect())
    }
}

fn sandbox(name: &str, host_port: Option<i32>) -> SandboxConfig {
    let port = |host_port| PortMapping {
        protocol: 0,
        container_port: 80,
        host_port,
    };
    SandboxConfig {
        metadata: Some(SandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "shop".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: String::new(),
        ports: host_port.map(port).into_iter().collect(),
        annotations: HashMap::new(),
        linux: Some(LinuxSandbox {
            cgroup_parent: "/ocicat-tests".to_owned(),
            security: Some(SandboxSecurity {
                namespaces: Some(NamespaceOption {
                    network: 0,
                    pid: 1,
                    ipc: 0,
                }),
            }),
        }),
    }
}
