//! Paths inside of an archive.

/// A path without `.`, empty parts and a slash at the start; `None` when it leads out of the archive
/// or is no text.
pub(super) fn plain(path: &[u8]) -> Option<String> {
    resolve("", std::str::from_utf8(path).ok()?)
}

/// The path that a link in the directory of `from` leads to.
pub(super) fn link(from: &str, text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let dir = from.rsplit_once('/').map_or("", |(dir, _)| dir);
    resolve(if text.starts_with('/') { "" } else { dir }, text)
}

fn resolve(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
