//! The IPAM plugin `ocicat-ipam`: the node agent's addresses for other CNI plugins.

fn main() -> std::process::ExitCode {
    ocicat_plugin::main(&ocicat_plugin::Ipam)
}
