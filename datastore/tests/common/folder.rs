//! Folders of tests in memory, where there is enough of it: these tests ask what a store does, and none of them has to wait
//! for a disk that is slow or busy with something else. A few tests keep to the disk, so that it is seen too.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

/// What has to be free, on the file system and in the machine: an etcd takes 128 MiB before it begins, and several run at once.
const ENOUGH: u64 = 2 << 30;

/// A temporary folder, in memory when there is enough.
pub(crate) fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if has_room(memory)
        && free_memory() >= ENOUGH
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    on_disk()
}

/// A temporary folder in the usual place.
pub(crate) fn on_disk() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn has_room(memory: &Path) -> bool {
    statfs(memory).is_ok_and(|found| {
        let block = u64::try_from(found.block_size()).unwrap_or_default();
        found.filesystem_type() == TMPFS_MAGIC && found.blocks_available() * block >= ENOUGH
    })
}

/// What the kernel could give to programs, in bytes.
fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
