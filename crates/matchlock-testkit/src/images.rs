//! The images that `cargo xtask image` makes for the tests.

use std::path::PathBuf;

use crate::repository;

/// Variable with the directory of the images; `cargo xtask test` sets it.
pub const TEST_IMAGES: &str = "MATCHLOCK_TEST_IMAGES";

/// An image as an archive in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestImage {
    /// Debian with Python, curl, git, the CA certificates and a static busybox: three layers, a
    /// docker archive without compression.
    Debian,
    /// The same in ten layers of 20 MB each, filled up with documentation to 200 MB in all: an OCI
    /// layout with gzip. For measuring.
    TenLayers,
    /// A static busybox and 127 layers on it: an OCI layout with gzip.
    ///
    /// Layer `n`, of 1 to 127, has the files `/layers/n` and `/layers/top`, which say `n` and a
    /// newline, and takes `/layers/(n-1)` away when `n` is even. So `/layers/127` and the files of
    /// even numbers are left, and `/layers/top` says 127.
    ManyLayers,
    /// One static program, `/busybox`, in one layer and nothing else: a docker archive. Its entry
    /// point is `/busybox`, its command `echo hello from scratch`.
    Scratch,
}

impl TestImage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Debian, Self::TenLayers, Self::ManyLayers, Self::Scratch];

    /// Its tag in the archive, and the file's name with `.tar`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::TenLayers => "ten-layers",
            Self::ManyLayers => "many-layers",
            Self::Scratch => "scratch",
        }
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{}.tar", self.name())
    }

    /// Its file, in the directory that [`TEST_IMAGES`] names, else in `target/images`.
    ///
    /// # Panics
    /// When there is none: a missing image is a failed test, not a skipped one.
    #[must_use]
    pub fn path(self) -> PathBuf {
        let directory = std::env::var_os(TEST_IMAGES)
            .map_or_else(|| repository().join("target/images"), PathBuf::from);
        let path = directory.join(self.file_name());
        assert!(path.is_file(), "{} is missing: run `cargo xtask image`", path.display());
        path
    }
}
