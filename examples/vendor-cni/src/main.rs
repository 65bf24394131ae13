//! The CNI plugin `manul`.

fn main() -> std::process::ExitCode {
    ocicat_cni::run_process(&manul::Manul)
}
