//! The tree of `--image host`: the host's own system directories, read-only, without its secrets.
//!
//! What is served and what is masked is data, in `rows`; `docs/host-image.md` is rendered from it.

mod docs;
mod rows;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};

use crate::host_dir::{Filter, HostDir, HostDirOptions};
use crate::pool::Pool;
use crate::provider::CachePolicy;
use crate::synthetic::{Tree, TreeBuilder, TreeError};
use crate::types::FileKind;

pub use docs::render;
use rows::{MASKS, ROWS, Row, Source};

/// Makes the tree of `--image host`.
#[derive(Debug)]
pub struct HostImage;

/// Why the host has no image.
#[derive(Debug, thiserror::Error)]
pub enum HostImageError {
    /// The root directory.
    #[error("cannot open the root directory {path}")]
    Root {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory below it.
    #[error("cannot serve {path} of the host")]
    Directory {
        /// In the host.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The table contradicts itself.
    #[error("cannot lay out the image")]
    Layout(#[from] TreeError),
}

impl HostImage {
    /// The tree over the system directories below `root`, which is `/` except in tests.
    ///
    /// # Errors
    /// When the root or a served directory exists and cannot be opened for another reason than
    /// permissions; what the invoking user may not enter is absent.
    pub fn open(root: &Path, pool: &Arc<Pool>, cache: CachePolicy) -> Result<Tree, HostImageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let host = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|error| HostImageError::Root { path: root.into(), source: error.into() })?;
        let mut builder = TreeBuilder::new(cache);
        for row in ROWS {
            place(&mut builder, &host, row, pool, cache)?;
        }
        Ok(builder.build())
    }
}

/// Puts one row into the tree, if the host has what it names.
fn place(
    builder: &mut TreeBuilder,
    host: &OwnedFd,
    row: &Row,
    pool: &Arc<Pool>,
    cache: CachePolicy,
) -> Result<(), HostImageError> {
    let path = Path::new(row.path);
    match row.source {
        Source::Empty(permissions) => builder.directory(path, permissions)?,
        Source::Link(target) => builder.link(path, target.as_bytes())?,
        Source::Host => {
            let fail = |error: rustix::io::Errno| HostImageError::Directory {
                path: path.into(),
                source: error.into(),
            };
            match find(host, row.path).map_err(fail)? {
                Found::Nothing => {}
                Found::Link(target) => builder.link(path, &target)?,
                Found::Directory(directory) => {
                    let options = options(row.path, cache);
                    let space = builder.next_space()?;
                    let provider =
                        HostDir::new(directory, space, pool, options).map_err(|source| {
                            HostImageError::Directory { path: path.into(), source }
                        })?;
                    builder.mount(path, Arc::new(provider))?;
                }
            }
        }
    }
    Ok(())
}

enum Found {
    Directory(OwnedFd),
    Link(Vec<u8>),
    Nothing,
}

/// What the host has at `path`. Links on the way to it are not followed; it may be a mount.
fn find(host: &OwnedFd, path: &str) -> rustix::io::Result<Found> {
    use rustix::io::Errno;
    let relative = path.trim_start_matches('/');
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = match openat2(host, relative, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {
            return Ok(Found::Nothing);
        }
        found => found?,
    };
    let mode = statat(&found, c"", AtFlags::EMPTY_PATH)?.st_mode;
    Ok(match FileKind::from_mode(mode) {
        Some(FileKind::Directory) => Found::Directory(found),
        Some(FileKind::Symlink) => Found::Link(readlinkat(&found, c"", Vec::new())?.into_bytes()),
        _ => Found::Nothing,
    })
}

/// How a directory of the host is served in the image.
fn options(path: &str, cache: CachePolicy) -> HostDirOptions {
    let below = |mask: &'static str| mask.strip_prefix(path)?.strip_prefix('/');
    let filter = Filter {
        masks: MASKS.iter().filter_map(|(pattern, _)| below(pattern)).collect(),
        world_readable_only: true,
        refuse_private_keys: path == "/etc",
        hide_special: true,
    };
    HostDirOptions { cache, filter, cross_mounts: false, stateless: true }
}
