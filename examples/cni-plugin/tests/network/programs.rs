//! The programs under test, where runtimes find them.

/// A folder `bin` below `folder` with the two thin plugins, for runtimes to find them.
pub(crate) fn programs(folder: &std::path::Path) -> std::path::PathBuf {
    let programs = folder.join("bin");
    std::fs::create_dir(&programs).unwrap();
    for (name, program) in [
        ("ocicat", env!("CARGO_BIN_EXE_ocicat")),
        ("ocicat-ipam", env!("CARGO_BIN_EXE_ocicat-ipam")),
    ] {
        std::os::unix::fs::symlink(program, programs.join(name)).unwrap();
    }
    programs
}
