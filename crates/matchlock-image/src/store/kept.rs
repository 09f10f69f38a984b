//! Images of sandboxes that are kept: what they need stays as long as a file of the sandbox does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Locked, RootImage, Store, StoreError, files, needed};
use crate::digest::Digest;
use crate::manifest::ImageConfig;

/// How the names of their leases end.
const ENDING: &str = ".kept";

/// Most bytes that are read of an image that is kept.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// An image, written down.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    reference: String,
    digest: Digest,
    /// As the image has it.
    config: String,
}

impl Store {
    /// Has all files of an image stay as long as there is the file `path`, which says what image it is: it
    /// is made if it is not there. `name` is the owner's, a part of a file's name.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when the image was removed in the meantime.
    pub fn keep_image(&self, image: &RootImage, name: &str, path: &Path) -> Result<(), StoreError> {
        let config =
            ImageConfig::decode(image.config.raw.as_bytes()).map_err(StoreError::Config)?;
        let kept = Kept {
            reference: image.reference.clone(),
            digest: image.digest,
            config: image.config.raw.clone(),
        };
        let json = serde_json::to_vec(&kept).map_err(io::Error::from);
        let draft = path.with_extension("new");
        let written = json.and_then(|json| {
            let mut options = File::options();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
            io::Write::write_all(&mut file?, &json)?;
            fs::rename(&draft, path)
        });
        written.map_err(StoreError::file("write", path))?;
        let _guard = self.lock()?;
        let lease = self.dir().join("leases").join(format!("{name}{ENDING}"));
        files::remove(&lease).map_err(StoreError::file("remove", &lease))?;
        symlink(path, &lease).map_err(StoreError::file("create", &lease))?;
        // What is there under the lock stays from here on.
        for digest in needed(&config.diff_ids) {
            if !self.blob_path(&digest).exists() {
                return Err(StoreError::Damaged(digest));
            }
        }
        Ok(())
    }

    /// Opens the image that a file of [`Self::keep_image`] is about, whatever its name leads to now.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when a file of it was deleted all the same.
    pub fn open_kept(&self, path: &Path) -> Result<RootImage, StoreError> {
        let Kept { reference, digest, config } =
            read(path).map_err(StoreError::file("read", path))?;
        let config = ImageConfig::decode(config.as_bytes()).map_err(StoreError::Config)?;
        let files = self.open_blobs(&config.diff_ids)?;
        Ok(RootImage { files, config: config.runtime, reference, digest })
    }
}

impl Locked<'_> {
    /// What the kept image behind a lease needs. A lease whose sandbox is gone goes, too.
    pub(super) fn kept(&self, lease: &Path) -> Result<Option<BTreeSet<Digest>>, StoreError> {
        let is_kept =
            lease.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING));
        if !is_kept {
            return Ok(None);
        }
        match read(lease) {
            Ok(Kept { config, .. }) => {
                let config = ImageConfig::decode(config.as_bytes()).map_err(StoreError::Config)?;
                Ok(Some(needed(&config.diff_ids).collect()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::remove(lease).map_err(StoreError::file("remove", lease))?;
                Ok(Some(BTreeSet::new()))
            }
            Err(error) => Err(StoreError::file("read", lease)(error)),
        }
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    let mut json = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}
