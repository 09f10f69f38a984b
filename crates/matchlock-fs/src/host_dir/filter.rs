//! What of a host directory a guest may see and read.

use rustix::fs::Mode;

use crate::glob::Pattern;
use crate::types::{Errno, FileKind, Result};

/// Rules over and above the host's own permissions.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Paths that are absent, with everything below them.
    pub masks: Masks,
    /// Only what everyone on the host may read is read: a file needs `o+r`, a directory `o+x` to be
    /// entered and `o+r` to be listed, whoever runs us.
    pub world_readable_only: bool,
    /// A file with a PEM private key in it is not read.
    pub refuse_private_keys: bool,
    /// FIFOs, sockets and devices are absent.
    pub hide_special: bool,
}

/// Patterns of paths relative to the directory: `*` is any run of characters within a name, `**` any
/// number of directories.
#[derive(Debug, Clone, Default)]
pub struct Masks(Vec<Pattern>);

impl<'a> FromIterator<&'a str> for Masks {
    fn from_iter<I: IntoIterator<Item = &'a str>>(patterns: I) -> Self {
        Self(patterns.into_iter().map(Pattern::new).collect())
    }
}

/// Longest file that is searched for a key; a longer one is no key file.
const MAX_KEY_FILE: usize = 1024 * 1024;

impl Filter {
    /// Whether names are to be compared with masks at all.
    pub(super) const fn has_masks(&self) -> bool {
        !self.masks.0.is_empty()
    }

    /// Whether a mask covers `name` in the directory that has the relative path `parent`.
    pub(super) fn masks(&self, parent: &[u8], name: &[u8]) -> bool {
        let above = parent.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        let components: Vec<&[u8]> = above.chain([name]).collect();
        self.masks.0.iter().any(|mask| mask.matches(&components))
    }

    pub(super) fn hides_kind(&self, kind: FileKind) -> bool {
        self.hide_special && kind.is_special()
    }

    /// Whether everyone has the permissions `needed` of others.
    pub(super) fn check_mode(&self, mode: u32, needed: Mode) -> Result<()> {
        let granted = Mode::from_bits_truncate(mode).contains(needed);
        if granted || !self.world_readable_only { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Refuses a file that holds a private key, wherever in it the key begins.
    pub(super) fn check_content(&self, file: impl std::os::fd::AsFd) -> Result<()> {
        if !self.refuse_private_keys {
            return Ok(());
        }
        let mut content = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        while content.len() < MAX_KEY_FILE {
            match rustix::io::pread(&file, &mut chunk, content.len() as u64) {
                Ok(0) => break,
                Ok(count) => content.extend_from_slice(&chunk[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if holds_private_key(&content) { Err(Errno::EACCES) } else { Ok(()) }
    }
}

/// RFC 7468 section 2, and OpenSSH's own form of it: `-----BEGIN … PRIVATE KEY…-----`.
fn holds_private_key(content: &[u8]) -> bool {
    content.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| {
        let line = line.trim_ascii_start();
        line.starts_with(b"-----BEGIN ")
            && line.windows(b"PRIVATE KEY".len()).any(|part| part == b"PRIVATE KEY")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_are_known_by_their_armour() {
        for kind in ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH ", "PGP "] {
            let block = if kind == "PGP " { " BLOCK" } else { "" };
            let pem = format!("cert\r\n  -----BEGIN {kind}PRIVATE KEY{block}-----\nMII\n");
            assert!(holds_private_key(pem.as_bytes()), "{kind}");
        }
        for public in
            ["-----BEGIN CERTIFICATE-----\n", "-----BEGIN PUBLIC KEY-----\n", "PRIVATE KEY"]
        {
            assert!(!holds_private_key(public.as_bytes()), "{public}");
        }
    }

    #[test]
    fn masks_are_relative_and_cover_whole_names() {
        let filter =
            Filter { masks: Masks::from_iter(["shadow*", "ssl/private"]), ..Filter::default() };
        assert!(filter.masks(b"", b"shadow-"));
        assert!(filter.masks(b"ssl", b"private"));
        assert!(!filter.masks(b"ssl", b"privates"));
        assert!(!filter.masks(b"x/ssl", b"private"));
    }
}
