//! What of a host directory a guest may see and read.

use memchr::memmem::Finder;
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

/// Longest file that is searched for a key, in bytes. A longer one is not read.
const MAX_SEARCHED: u64 = 16 * 1024 * 1024;

/// Bytes that are searched at a time.
const CHUNK: usize = 64 * 1024;

impl Filter {
    /// Whether names are to be compared with masks at all.
    pub(super) const fn has_masks(&self) -> bool {
        !self.masks.0.is_empty()
    }

    /// Whether a mask covers `name`, or what `name` is a backup of, in the directory that has the relative
    /// path `parent`.
    pub(super) fn masks(&self, parent: &[u8], name: &[u8]) -> bool {
        let above = parent.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        let mut components: Vec<&[u8]> = above.chain([name]).collect();
        originals(name).any(|original| {
            components.pop();
            components.push(original);
            self.masks.0.iter().any(|mask| mask.matches(&components))
        })
    }

    pub(super) fn hides_kind(&self, kind: FileKind) -> bool {
        self.hide_special && kind.is_special()
    }

    /// Whether everyone has the permissions `needed` of others.
    pub(super) fn check_mode(&self, mode: u32, needed: Mode) -> Result<()> {
        let granted = Mode::from_bits_truncate(mode).contains(needed);
        if granted || !self.world_readable_only { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Refuses a file that holds a private key, wherever in it the key is, and one that is too long to
    /// be searched.
    pub(super) fn check_content(&self, file: impl std::os::fd::AsFd) -> Result<()> {
        if !self.refuse_private_keys {
            return Ok(());
        }
        let key = Armour::new();
        let mut window = Vec::with_capacity(Armour::LONGEST + CHUNK);
        let mut offset = 0;
        while offset <= MAX_SEARCHED {
            // What was cut off by the end of a chunk is whole with the next one.
            window.drain(..window.len().saturating_sub(Armour::LONGEST - 1));
            let kept = window.len();
            window.resize(kept + CHUNK, 0);
            let count = loop {
                match rustix::io::pread(&file, &mut window[kept..], offset) {
                    Err(rustix::io::Errno::INTR) => {}
                    count => break count?,
                }
            };
            window.truncate(kept + count);
            if count == 0 {
                return Ok(());
            }
            if key.is_in(&window) {
                return Err(Errno::EACCES);
            }
            offset += count as u64;
        }
        Err(Errno::EACCES)
    }
}

/// What only a file with a private key has in it.
struct Armour([Finder<'static>; 11]);

impl Armour {
    /// RFC 7468, OpenSSH's and OpenPGP's forms of it, ssh.com's; PuTTY's and age's; and PEM within Base64,
    /// as in configuration files of clusters, at each of its three alignments. Labels are looked for and not
    /// lines: a key may be a string in JSON, YAML or a script.
    const NEEDLES: [&'static str; 11] = [
        "PRIVATE KEY-----",
        "PRIVATE KEY BLOCK-----",
        "PRIVATE KEY ----",
        "PuTTY-User-Key-File-",
        "AGE-SECRET-KEY-1",
        "UFJJVkFURSBLRVktLS0tL",
        "BSSVZBVEUgS0VZLS0tLS",
        "QUklWQVRFIEtFWS0tLS0t",
        "UFJJVkFURSBLRVkgQkxPQ0",
        "BSSVZBVEUgS0VZIEJMT0NL",
        "QUklWQVRFIEtFWSBCTE9DS",
    ];

    /// Length of the longest of them, in bytes.
    const LONGEST: usize = 22;

    fn new() -> Self {
        Self(Self::NEEDLES.map(Finder::new))
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|needle| needle.find(text).is_some())
    }
}

/// `name`, and the names of which it would be a backup, from the longest to the shortest: editors and
/// package managers put a word, a number or a sign after a name.
fn originals(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| original(name))
}

fn original(name: &[u8]) -> Option<&[u8]> {
    const WORDS: &[&[u8]] = &[
        b".bak",
        b".backup",
        b".bck",
        b".copy",
        b".new",
        b".old",
        b".orig",
        b".save",
        b".saved",
        b".tmp",
        b".swp",
        b".swo",
        b".dpkg-bak",
        b".dpkg-dist",
        b".dpkg-new",
        b".dpkg-old",
        b".dpkg-tmp",
        b".rpmnew",
        b".rpmorig",
        b".rpmsave",
        b".pacnew",
        b".pacorig",
        b".pacsave",
        b".ucf-dist",
        b".ucf-new",
        b".ucf-old",
        b".apk-new",
    ];
    // Vim's swap files, and Emacs' of what is not saved yet, have something before the name, too.
    let hidden = |rest: &'static [u8]| rest == b".swp" || rest == b".swo";
    if let Some(name) = name.strip_prefix(b"#").and_then(|name| name.strip_suffix(b"#")) {
        return Some(name);
    }
    for word in WORDS {
        let Some(at) = name.len().checked_sub(word.len()) else { continue };
        let (stem, end) = name.split_at(at);
        if end.eq_ignore_ascii_case(word) {
            return Some(if hidden(word) { stem.strip_prefix(b".").unwrap_or(stem) } else { stem });
        }
    }
    let is_mark = |byte: &u8| byte.is_ascii_digit() || b".-_~".contains(byte);
    let stem = name.iter().rposition(|byte| !is_mark(byte)).map_or(0, |last| last + 1);
    (0 < stem && stem < name.len()).then(|| &name[..stem])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds_key(content: &[u8]) -> bool {
        use std::io::Write as _;
        let filter = Filter { refuse_private_keys: true, ..Filter::default() };
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        filter.check_content(&file).is_err()
    }

    #[test]
    fn private_keys_are_known_by_their_armour_anywhere_in_a_line() {
        for kind in ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH ", "PGP "] {
            let block = if kind == "PGP " { " BLOCK" } else { "" };
            let pem = format!("-----BEGIN {kind}PRIVATE KEY{block}-----");
            for text in [
                format!("cert\r\n  {pem}\nMII\n"),
                format!("{{\"private_key\": \"{pem}\\nMII\\n\"}}"),
                format!("key: \"{pem}\\nMII\""),
                format!("export KEY='{pem}\nMII'"),
            ] {
                assert!(holds_key(text.as_bytes()), "{text}");
            }
        }
        // `-----BEGIN PRIVATE KEY-----`, `x-----BEGIN EC PRIVATE KEY-----`, `xx-----BEGIN PRIVATE KEY-----`.
        for base64 in [
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t",
            "eC0tLS0tQkVHSU4gRUMgUFJJVkFURSBLRVktLS0tLQ==",
            "eHgtLS0tLUJFR0lOIFBSSVZBVEUgS0VZLS0tLS0=",
        ] {
            assert!(holds_key(format!("client-key-data: {base64}\n").as_bytes()), "{base64}");
        }
        for public in
            ["-----BEGIN CERTIFICATE-----\n", "-----BEGIN PUBLIC KEY-----\n", "PRIVATE KEY"]
        {
            assert!(!holds_key(public.as_bytes()), "{public}");
        }
        let longest = Armour::NEEDLES.iter().map(|needle| needle.len()).max();
        assert_eq!(longest, Some(Armour::LONGEST));
    }

    /// Issue 9: only the first MiB was searched.
    #[test]
    fn a_key_is_found_wherever_in_a_file_it_begins() {
        let pem = b"-----BEGIN PRIVATE KEY-----\n";
        for before in [CHUNK - 27, CHUNK - 20, CHUNK - 1, CHUNK, (1 << 20) - 14, 3 << 20] {
            let text = [&vec![b'#'; before][..], pem].concat();
            assert!(holds_key(&text), "after {before}");
        }
        assert!(!holds_key(&vec![b'#'; 3 << 20]));
        let longest = usize::try_from(MAX_SEARCHED).expect("small");
        assert!(!holds_key(&vec![b'#'; longest]), "searched whole");
        assert!(holds_key(&vec![b'#'; longest + 1]), "too long to know");
    }

    #[test]
    fn backups_of_a_masked_file_are_masked() {
        let filter =
            Filter { masks: Masks::from_iter(["hosts", "ppp/*-secrets"]), ..Filter::default() };
        for name in [
            "hosts~",
            "hosts-",
            "hosts.bak",
            "hosts.BAK",
            "hosts.orig",
            "hosts.1",
            "hosts.~2~",
            "hosts.2026-01-02",
            "hosts.dpkg-old",
            "hosts.rpmsave.1",
            "hosts.old.bak~",
            ".hosts.swp",
            "#hosts#",
        ] {
            assert!(filter.masks(b"", name.as_bytes()), "{name}");
        }
        assert!(filter.masks(b"ppp", b"pap-secrets.bak"));
        for name in ["hosts.allow", "hosts.deny", "host", "ghosts", "hosts.d"] {
            assert!(!filter.masks(b"", name.as_bytes()), "{name}");
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
