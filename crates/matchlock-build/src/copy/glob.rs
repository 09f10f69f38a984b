//! Sources of COPY and ADD: paths and patterns.

use matchlock_text::glob::Glob;

use super::CopyError;
use crate::files::{Entry, Files, Kind, join};

/// The paths that the patterns cover, in the order of their names. A plain path must exist; a pattern
/// may cover nothing.
pub(crate) fn globs(files: &dyn Files, patterns: &[String]) -> Result<Vec<Vec<u8>>, CopyError> {
    let mut found = Vec::new();
    for pattern in patterns {
        let before = found.len();
        glob(files, pattern, &mut found)?;
        if found.len() == before && !Glob::is_pattern(pattern) {
            return Err(CopyError::NotFound(pattern.clone()));
        }
    }
    Ok(found)
}

fn glob(files: &dyn Files, source: &str, found: &mut Vec<Vec<u8>>) -> Result<(), CopyError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut open: Vec<Vec<u8>> = vec![Vec::new()];
    for part in parts {
        let mut next = Vec::new();
        let pattern = Glob::is_pattern(part)
            .then(|| Glob::new(part))
            .transpose()
            .map_err(|_| CopyError::NotFound(source.to_owned()))?;
        for above in open {
            let Some(pattern) = &pattern else {
                next.push(join(&above, part.as_bytes()));
                continue;
            };
            let Some((path, Entry { kind: Kind::Directory, .. })) = files.find(&above)? else {
                continue;
            };
            for (name, _) in files.list(&path)? {
                if pattern.matches(name.as_bytes()) {
                    next.push(join(&above, name.as_bytes()));
                }
            }
        }
        open = next;
    }
    let there = |path: &Vec<u8>| files.find(path).map(|found| found.is_some());
    for path in open {
        if there(&path)? || Glob::is_pattern(source) && path_is_link(files, &path)? {
            found.push(path);
        }
    }
    Ok(())
}

/// A link that a pattern covers and that leads nowhere is an error, not a gap.
fn path_is_link(files: &dyn Files, path: &[u8]) -> Result<bool, CopyError> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (above, name) = at.map_or((b"".as_slice(), path), |at| (&path[..at], &path[at + 1..]));
    let Some((above, _)) = files.find(above)? else { return Ok(false) };
    let listed = files.list(&above)?;
    Ok(listed
        .iter()
        .any(|(found, entry)| found.as_bytes() == name && matches!(entry.kind, Kind::Symlink(_))))
}
