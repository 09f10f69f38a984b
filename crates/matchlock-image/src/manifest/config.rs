//! The configuration of an image (OCI image spec, config.md; Docker's has the same fields).

use serde::{Deserialize, Deserializer};

use super::{ImageManifest, MAX_BYTES, MAX_LAYERS, ManifestError, Platform};
use crate::digest::Digest;

/// A configuration, decoded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// For which machine the image is.
    pub platform: Platform,
    /// Digests of the layers' uncompressed archives, lowest first.
    pub diff_ids: Vec<Digest>,
    /// What processes start with.
    pub runtime: RuntimeConfig,
}

/// What an image says about its processes. Nothing of it holds NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// `user`, `uid`, `user:group` …; `None` is root.
    pub user: Option<String>,
    /// Absolute, or `None`.
    pub working_dir: Option<String>,
    /// Words before the command's.
    pub entrypoint: Vec<String>,
    /// Words of the command when the user gives none.
    pub cmd: Vec<String>,
    /// In the order of the image; names are not empty and have no `=`.
    pub env: Vec<(String, String)>,
    /// The whole configuration in JSON as the image has it: builds start from it.
    pub raw: String,
}

#[derive(Deserialize)]
struct RawImage {
    #[serde(default, deserialize_with = "nullable")]
    architecture: String,
    #[serde(default, deserialize_with = "nullable")]
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    config: RawRuntime,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRuntime {
    #[serde(default, deserialize_with = "nullable")]
    user: String,
    #[serde(default, deserialize_with = "nullable")]
    working_dir: String,
    #[serde(default, deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    env: Vec<String>,
}

impl ImageConfig {
    /// Decodes a configuration.
    ///
    /// # Errors
    /// [`ManifestError`]: too long, malformed, or with text that no process can be given.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let length = bytes.len() as u64;
        if length > MAX_BYTES {
            return Err(ManifestError::TooLong(length));
        }
        let malformed = |error| ManifestError::Malformed("configuration of the image", error);
        let raw: RawImage = serde_json::from_slice(bytes).map_err(malformed)?;
        if raw.rootfs.kind != "layers" {
            return Err(ManifestError::Invalid("its file system is not made of layers"));
        }
        if raw.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(raw.rootfs.diff_ids.len()));
        }
        let os = if raw.os.is_empty() { "linux" } else { &raw.os };
        let platform = Platform::new(os, &raw.architecture, raw.variant.as_deref());
        let runtime = raw.config.checked(bytes)?;
        Ok(Self { platform, diff_ids: raw.rootfs.diff_ids, runtime })
    }

    /// Checks that this is the configuration of an image with these layers, and for `platform`.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn matches(
        &self,
        manifest: &ImageManifest,
        platform: &Platform,
    ) -> Result<(), ManifestError> {
        if manifest.layers.len() != self.diff_ids.len() {
            return Err(ManifestError::Invalid("its configuration is of another number of layers"));
        }
        self.runs_on(platform)
    }

    /// Checks that this is for `platform`.
    ///
    /// # Errors
    /// [`ManifestError::WrongPlatform`].
    pub fn runs_on(&self, platform: &Platform) -> Result<(), ManifestError> {
        // Images without files, made from nothing, name no processor.
        if !self.platform.is_any() && platform.accepts(&self.platform).is_none() {
            let (wanted, found) = (platform.to_string(), self.platform.to_string());
            return Err(ManifestError::WrongPlatform { wanted, found });
        }
        Ok(())
    }
}

impl RawRuntime {
    fn checked(self, bytes: &[u8]) -> Result<RuntimeConfig, ManifestError> {
        let words = self.entrypoint.iter().chain(&self.cmd).chain(&self.env);
        if words.chain([&self.user, &self.working_dir]).any(|text| text.contains('\0')) {
            return Err(ManifestError::Invalid("its configuration has text with NUL in it"));
        }
        let raw = std::str::from_utf8(bytes)
            .map_err(|_| ManifestError::Invalid("its configuration is not UTF-8"))?;
        let env = self.env.into_iter().filter_map(|text| match text.split_once('=') {
            Some(("", _)) => None,
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => (!text.is_empty()).then_some((text, String::new())),
        });
        let absolute = |dir: String| if dir.starts_with('/') { dir } else { format!("/{dir}") };
        Ok(RuntimeConfig {
            user: Some(self.user).filter(|user| !user.is_empty()),
            working_dir: Some(self.working_dir).filter(|dir| !dir.is_empty()).map(absolute),
            entrypoint: self.entrypoint,
            cmd: self.cmd,
            env: env.collect(),
            raw: raw.to_owned(),
        })
    }
}

/// `null` is the same as nothing: encoders of Go write it for empty lists.
fn nullable<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
