//! The CNI plugin `ocicat`: passes the container's namespace and the request to the node agent, prints the answer.

fn main() -> std::process::ExitCode {
    ocicat_plugin::main(&ocicat_plugin::Network)
}
