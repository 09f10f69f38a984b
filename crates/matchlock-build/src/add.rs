//! What ADD does beyond COPY: archives in the context are unpacked (Dockerfile reference, "ADD").

use std::io::Read;

use super::error::{Problem, StepError};
use super::files::{Files, FilesError, Kind, shown};
use super::root::Root;
use matchlock_image::erofs::BlobWriter;
use matchlock_image::layer::{self, Compression, Limits};
use matchlock_image::store::Store;
use matchlock_image::tree::Content;

/// Length of a tar header, in bytes.
const HEADER: usize = 512;

/// Addresses are not downloaded: the host would fetch what the build's policy may not allow.
pub(super) fn refuse_remote(source: &str) -> Result<(), Problem> {
    let lower = source.to_ascii_lowercase();
    let remote = ["http://", "https://", "ftp://", "git://", "ssh://", "git@"];
    if remote.iter().any(|scheme| lower.starts_with(scheme)) {
        return Err(Problem::Unsupported {
            what: "ADD of an address".to_owned(),
            instead: "download it in a RUN, under the build's network policy",
        });
    }
    Ok(())
}

/// The files of an archive; `None` when the file is none.
pub(super) fn unpack(
    store: &Store,
    files: &dyn Files,
    path: &[u8],
) -> Result<Option<Root>, StepError> {
    let Some((path, entry)) = files.find(path)? else { return Ok(None) };
    if !matches!(entry.kind, Kind::File) {
        return Ok(None);
    }
    let start = read_start(files.open(&path)?).map_err(|source| fail(&path, source))?;
    if start.starts_with(b"BZh") || start.starts_with(b"\xfd7zXZ\0") {
        return Err(StepError::Archive(shown(&path)));
    }
    let compression = Compression::sniff(&start);
    let input = compression.reader(files.open(&path)?).map_err(|source| fail(&path, source))?;
    // Damaged or not an archive: then it is copied as it is.
    match read_start(input) {
        Ok(header) if is_tar(&header) => {}
        _ => return Ok(None),
    }
    let blob = BlobWriter::new(store.new_blob()?)?;
    let limits = Limits::default();
    let layer = layer::unpack(files.open(&path)?, compression, None, blob, &limits)?;
    let whiteout = |content: &Content| matches!(content, Content::Whiteout);
    let mut open = vec![matchlock_image::tree::Tree::ROOT];
    while let Some(id) = open.pop() {
        if whiteout(&layer.tree.inode(id).content) {
            return Err(StepError::Whiteouts(shown(&path)));
        }
        open.extend(
            layer.tree.directory(id).into_iter().flat_map(|directory| directory.entries.values()),
        );
    }
    Ok(Some(Root { tree: layer.tree.into(), layers: [layer.file].into() }))
}

fn fail(path: &[u8], source: std::io::Error) -> FilesError {
    FilesError::Io { path: shown(path), source }
}

fn read_start(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(HEADER);
    input.take(HEADER as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether this is a header by its checksum (POSIX.1-2024, pax, "ustar Interchange Format").
fn is_tar(header: &[u8]) -> bool {
    let Some(field) = header.get(148..156).filter(|_| header.len() == HEADER) else { return false };
    let text = String::from_utf8_lossy(field);
    let text = text.trim_matches(|c: char| c == '\0' || c == ' ');
    let sum = |at: usize| if (148..156).contains(&at) { 32 } else { u32::from(header[at]) };
    header[0] != 0 && u32::from_str_radix(text, 8) == Ok((0..HEADER).map(sum).sum())
}
