//! Importing images from archives: those of `docker save`, old and new, and OCI layouts.
//!
//! An archive names its layers in files that may come after them, so the input is kept in a file
//! without a name, and read twice: for the documents, then for the layers. Sources: OCI image spec,
//! image-layout.md; Docker Engine API, "Export an image".

mod documents;
mod layers;
mod path;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use self::documents::Documents;
use crate::layer::{Compression, LayerError};
use crate::manifest::{ManifestError, Platform};
use crate::pull::{Event, Progress, Pulled};
use crate::store::{ImageName, NewImage, Store, StoreError, needed};
use crate::tar::TarError;

/// Most bytes of an archive, uncompressed: 256 GiB.
const MAX_BYTES: u64 = 256 << 30;

/// Why an archive was not imported. No name in the store has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input, or its compression.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// Not a tar archive.
    #[error("not an archive of a container image")]
    Tar(#[from] TarError),
    /// Neither form of archives, or not one image.
    #[error("not an archive of a container image: {0}")]
    Form(&'static str),
    /// Something that the archive names is not in it.
    #[error("the archive lacks {0:?}")]
    Missing(String),
    /// A file in it is not what its name says.
    #[error("{0:?} in the archive has another digest or length than it should")]
    Mismatch(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest or a configuration in it.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A layer is not what an image may hold, or not what its digest says.
    #[error("layer {index} of the archive is refused")]
    Layer {
        /// From 1, the lowest.
        index: usize,
        /// Why.
        #[source]
        source: LayerError,
    },
}

/// Imports the one image of an archive under `name`; of an index, the image for this host. The input
/// may be a pipe, and compressed with gzip or zstd.
///
/// # Errors
/// [`ImportError`].
pub fn import(
    store: &Store,
    input: impl Read + Send,
    name: &ImageName,
    progress: &dyn Progress,
) -> Result<Pulled, ImportError> {
    let (spool, documents) = spool(store, input)?;
    let image = documents.image(&Platform::host())?;
    let (digest, config) = (image.digest, &image.config);
    let bytes = image.layers.iter().filter_map(|layer| layer.blob).map(|blob| blob.size).sum();
    progress.event(Event::Resolved { digest, layers: image.layers.len(), bytes });
    let lease = store.lease(needed(&config.diff_ids))?;
    layers::store_all(store, &lease, &spool, &documents, &image, progress)?;
    progress.event(Event::Merging);
    let new = NewImage { names: std::slice::from_ref(name), digest, config };
    let image = store.commit_image(&lease, &new)?;
    Ok(Pulled { image, fresh: true })
}

/// Keeps the uncompressed archive, and what of it is JSON.
fn spool(
    store: &Store,
    mut input: impl Read + Send,
) -> Result<(std::fs::File, Documents), ImportError> {
    let mut start = Vec::new();
    input.by_ref().take(4).read_to_end(&mut start).map_err(ImportError::Read)?;
    let compression = Compression::sniff(&start);
    let input = compression.reader(io::Cursor::new(start).chain(input));
    let input = input.map_err(ImportError::Read)?.take(MAX_BYTES);
    let mut copy = Copy { input, file: store.new_blob()?, fault: None };
    let read = Documents::read(&mut copy);
    let drained = read.and_then(|documents| {
        // Whoever writes into a pipe should not be cut off.
        io::copy(&mut copy, &mut io::sink()).map_err(ImportError::Read)?;
        Ok(documents)
    });
    match (copy.fault, drained) {
        (Some(error), _) => Err(store.blob_failed(error).into()),
        (None, drained) => Ok((copy.file, drained?)),
    }
}

/// A reader that writes to a file what it reads.
struct Copy<R> {
    input: R,
    file: std::fs::File,
    fault: Option<io::Error>,
}

impl<R: Read> Read for Copy<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Err(error) = io::Write::write_all(&mut self.file, &buffer[..count]) {
            let kind = error.kind();
            self.fault = Some(error);
            return Err(kind.into());
        }
        Ok(count)
    }
}
