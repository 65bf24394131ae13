//! The CNI plugin `ocicat-direct`: attaches the pods of a single host without a node agent.

fn main() -> std::process::ExitCode {
    ocicat_plugin::main(&ocicat_plugin::Direct)
}
