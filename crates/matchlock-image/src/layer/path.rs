//! Paths of a layer's entries.

use super::EntryError;
use crate::tree::Name;

/// Longest path, in bytes: Linux's PATH_MAX.
const PATH_MAX: usize = 4096;
/// Marks a name as a whiteout.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a name of aufs's own.
const AUFS: &[u8] = b".wh..wh.";
/// The name that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The layer's root.
    Root,
    /// A name in a directory.
    Named(Parents<'a>, Name),
    /// A name in a directory of lower layers that is not there any more.
    Whiteout(Parents<'a>, Name),
    /// A directory of whose content in lower layers nothing is there.
    Opaque(Parents<'a>),
    /// Something of aufs's own that says nothing of files.
    Ignored,
}

/// The directories of a path, checked, the highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parents<'a>(&'a [u8]);

impl Target<'_> {
    /// Whether an entry at this place is a file of the layer.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::Root | Self::Named(..))
    }
}

impl<'a> Parents<'a> {
    pub(super) fn names(self) -> impl Iterator<Item = &'a [u8]> {
        components(self.0)
    }
}

/// Checks a path and says what it leads to.
pub(super) fn parse(path: &[u8]) -> Result<Target<'_>, EntryError> {
    if path.is_empty() || path.len() > PATH_MAX {
        return Err(EntryError::PathLength);
    }
    let mut last = None;
    let mut ignored = false;
    for component in components(path) {
        if let Some(parent) = last.replace(component) {
            check_parent(parent)?;
        }
        ignored |= component.starts_with(AUFS) && component != OPAQUE;
    }
    // Whether a path is ignored is not known before all of it is.
    if ignored {
        return Ok(Target::Ignored);
    }
    let Some(last) = last else { return Ok(Target::Root) };
    let parents = parents(path, last);
    if last == OPAQUE {
        return Ok(Target::Opaque(parents));
    }
    if let Some(hidden) = last.strip_prefix(WHITEOUT) {
        let name = Name::new(hidden).map_err(|_| EntryError::Whiteout)?;
        return Ok(Target::Whiteout(parents, name));
    }
    let name = Name::new(last).map_err(|_| EntryError::component(last))?;
    Ok(Target::Named(parents, name))
}

fn check_parent(name: &[u8]) -> Result<(), EntryError> {
    if name.len() > 255 || name == b".." || name.contains(&0) {
        return Err(EntryError::component(name));
    }
    if name.starts_with(WHITEOUT) && !name.starts_with(AUFS) || name == OPAQUE {
        return Err(EntryError::Whiteout);
    }
    Ok(())
}

/// The path up to its last component, which is a slice of it.
fn parents<'a>(path: &'a [u8], last: &[u8]) -> Parents<'a> {
    let mut path = path;
    while let Some(rest) = path.strip_suffix(b"/").or_else(|| path.strip_suffix(b"/.")) {
        path = rest;
    }
    Parents(path.get(..path.len() - last.len()).unwrap_or_default())
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(path: &str) -> Option<(Vec<String>, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match parse(path.as_bytes()) {
            Ok(Target::Named(parents, name)) => {
                Some((parents.names().map(text).collect(), text(name.as_bytes())))
            }
            _ => None,
        }
    }

    #[test]
    fn paths_are_relative_to_the_root_whatever_they_start_with() {
        let same = Some((vec!["etc".to_owned()], "passwd".to_owned()));
        for path in ["etc/passwd", "/etc/passwd", "//./etc/.//passwd/", "./etc/passwd/./"] {
            assert_eq!(named(path), same, "{path}");
        }
        for root in ["/", ".", "./", "//", "/./."] {
            assert_eq!(parse(root.as_bytes()).ok(), Some(Target::Root), "{root}");
        }
    }

    #[test]
    fn what_leads_out_is_refused() {
        for bad in ["..", "../x", "a/../x", "a/..", "/..", "a/../../x", ".wh.../x"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!("{}/x", "a".repeat(256));
        let deep = "a/".repeat(2049);
        for bad in ["", "a\0b", "a\0/b", &long, &long[..256], &deep] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(&long.as_bytes()[..255]).is_ok());
    }

    #[test]
    fn whiteouts_hide_names_and_directories() {
        let name = |name: &[u8]| Name::new(name).expect("a name");
        let found = parse(b"a/.wh.b/").expect("a whiteout");
        assert_eq!(found, Target::Whiteout(Parents(b"a/"), name(b"b")));
        assert_eq!(parse(b".wh..wh..opq").ok(), Some(Target::Opaque(Parents(b""))));
        for bad in [".wh.", "a/.wh.", ".wh..", ".wh...", ".wh.a/b", ".wh..wh..opq/a"] {
            assert!(matches!(parse(bad.as_bytes()), Err(EntryError::Whiteout)), "{bad}");
        }
        for ignored in [".wh..wh.aufs", ".wh..wh.plnk/12.34", "a/.wh..wh..tmp"] {
            assert_eq!(parse(ignored.as_bytes()).ok(), Some(Target::Ignored), "{ignored}");
        }
        assert!(matches!(parse(b".wh..wh.plnk/../../x"), Err(EntryError::Component(_))));
    }

    proptest! {
        #[test]
        fn parents_and_name_are_the_components(path in "[a./]{0,12}") {
            let parsed = parse(path.as_bytes());
            let wanted: Vec<_> = components(path.as_bytes()).map(<[u8]>::to_vec).collect();
            if path.is_empty() || wanted.iter().any(|name| name == b"..") {
                prop_assert!(parsed.is_err());
                return Ok(());
            }
            let found: Vec<_> = match parsed.expect("a path") {
                Target::Root => vec![],
                Target::Named(parents, name) => parents
                    .names()
                    .map(<[u8]>::to_vec)
                    .chain([name.as_bytes().to_vec()])
                    .collect(),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(found, wanted);
        }
    }
}
