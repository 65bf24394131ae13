use super::SetId;

/// One way to a prefix: whom it came from and with which attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) set: SetId,
    /// The path identifier of RFC 7911; 0 without.
    pub(crate) id: u32,
    /// The index of the source.
    pub(crate) peer: u16,
    /// Tells the paths of one prefix apart, for peers that are sent several of them. The table chooses it.
    pub(crate) local: u16,
    /// Kept from a session that is gone (RFC 4724 section 4.2).
    pub(crate) stale: bool,
}

/// A prefix's paths; the usable best ones come first. Nearly every prefix has one, which needs no allocation.
#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(Path),
    Many(Box<PathList>),
}

#[derive(Debug)]
pub(super) struct PathList {
    pub(super) paths: Vec<Path>,
}

impl Paths {
    pub(super) fn as_slice(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(list) => &list.paths,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(list) => &mut list.paths,
        }
    }

    /// Adds a path under a number that no other has.
    pub(super) fn push(&mut self, mut path: Path) {
        path.local = self.vacant();
        match self {
            Self::None => *self = Self::One(path),
            Self::One(first) => {
                *self = Self::Many(Box::new(PathList {
                    paths: vec![*first, path],
                }));
            }
            Self::Many(list) => list.paths.push(path),
        }
    }

    fn vacant(&self) -> u16 {
        let paths = self.as_slice();
        let vacant = |number: &u16| paths.iter().all(|path| path.local != *number);
        let dense = u16::try_from(paths.len()).unwrap_or(u16::MAX);
        Some(dense)
            .filter(vacant)
            .or_else(|| (0..u16::MAX).find(vacant))
            .unwrap_or(u16::MAX)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Path) -> bool) {
        match self {
            Self::None => {}
            Self::One(path) => {
                if !keep(path) {
                    *self = Self::None;
                }
            }
            Self::Many(list) => {
                list.paths.retain(keep);
                match list.paths[..] {
                    [] => *self = Self::None,
                    [path] => *self = Self::One(path),
                    _ => {}
                }
            }
        }
    }
}
