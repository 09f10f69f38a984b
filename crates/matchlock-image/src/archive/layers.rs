//! The layers of an archive, in the order in which they come.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::documents::{ArchivedLayer, Described, Documents};
use super::{ImportError, path};
use crate::digest::Hasher;
use crate::erofs::BlobWriter;
use crate::layer::{self, Compression, Limits};
use crate::pull::{Event, LayerState, Progress};
use crate::store::{Lease, Store};
use crate::tar::{Archive, Kind};

/// Stores all layers that are not stored yet.
pub(super) fn store_all(
    store: &Store,
    lease: &Lease,
    spool: &File,
    documents: &Documents,
    image: &Described,
    progress: &dyn Progress,
) -> Result<(), ImportError> {
    let mut wanted: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut seen = HashSet::new();
    for (index, (layer, diff_id)) in image.layers.iter().zip(&image.config.diff_ids).enumerate() {
        if !seen.insert(diff_id) || store.has_blob(diff_id)? {
            report(progress, image, index, LayerState::Exists);
        } else {
            wanted.entry(documents.follow(&layer.path)).or_default().push(index);
        }
    }
    let mut input = spool;
    input.seek(SeekFrom::Start(0)).map_err(ImportError::Read)?;
    let mut archive = Archive::new(BufReader::with_capacity(128 * 1024, input));
    while !wanted.is_empty() {
        let Some(entry) = archive.next_entry()? else { break };
        let name = path::plain(&entry.path).filter(|_| entry.kind == Kind::File);
        let Some(indexes) = name.and_then(|name| wanted.remove(name.as_str())) else { continue };
        // Two layers in one file would have one diff id, and only its first place is wanted.
        let [index] = indexes.as_slice() else {
            return Err(ImportError::Form("one file of it is two layers"));
        };
        report(progress, image, *index, LayerState::Unpacking);
        store_one(store, lease, archive.content(), image, *index)?;
        report(progress, image, *index, LayerState::Done);
    }
    match wanted.keys().next() {
        Some(missing) => Err(ImportError::Missing((*missing).to_owned())),
        None => Ok(()),
    }
}

fn report(progress: &dyn Progress, image: &Described, index: usize, state: LayerState) {
    let diff_id = image.config.diff_ids[index];
    progress.event(Event::Layer { index, diff_id, state });
}

fn store_one(
    store: &Store,
    lease: &Lease,
    content: impl Read + Send,
    image: &Described,
    index: usize,
) -> Result<(), ImportError> {
    let ArchivedLayer { path, blob, compression } = &image.layers[index];
    let mut input = Hashed { input: content, hasher: Hasher::default(), len: 0 };
    let mut start = Vec::new();
    input.by_ref().take(4).read_to_end(&mut start).map_err(ImportError::Read)?;
    let compression = compression.unwrap_or_else(|| Compression::sniff(&start));
    let file = store.new_blob()?;
    let writer = BlobWriter::new(file).map_err(|error| store.blob_failed(error))?;
    let whole = io::Cursor::new(start).chain(&mut input);
    let diff_id = &image.config.diff_ids[index];
    let unpacked = layer::unpack(whole, compression, Some(diff_id), writer, &Limits::default());
    if let Some(full) = unpacked.as_ref().err().and_then(|error| store.full(error)) {
        return Err(full.into());
    }
    io::copy(&mut input, &mut io::sink()).map_err(ImportError::Read)?;
    let Hashed { hasher, len, .. } = input;
    if blob.is_some_and(|blob| blob.size != len || blob.digest != hasher.finish()) {
        return Err(ImportError::Mismatch(path.clone()));
    }
    let unpacked = unpacked.map_err(|source| ImportError::Layer { index: index + 1, source })?;
    Ok(store.commit_layer(lease, &unpacked)?)
}

/// A reader that computes the digest of what it reads.
struct Hashed<R> {
    input: R,
    hasher: Hasher,
    len: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.len += count as u64;
        Ok(count)
    }
}
