//! A root file system cut into layers.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use matchlock_testkit::image_archive::LayerTar;

use super::rootfs::{Entry, Kind, RootFs};

/// Lists of the files of a package, one file for each.
const PACKAGE_LISTS: &str = "var/lib/dpkg/info/";
/// Layers of [`by_package`].
const BASE: usize = 0;
const PYTHON: usize = 1;
const TOOLS: usize = 2;
/// Layers of [`by_size`].
const TEN: usize = 10;
/// Of the files in all layers of [`by_size`], in bytes.
const TEN_SIZE: usize = 200_000_000;

/// Starts of the names of the packages in the layer with Python.
const PYTHON_PACKAGES: [&str; 3] = ["python3", "libpython3", "media-types"];
/// The same of the tools; `perl-base` is essential.
const TOOL_PACKAGES: [&str; 9] = [
    "git",
    "curl",
    "libcurl",
    "perl-modules",
    "libperl",
    "perl",
    "openssl",
    "ca-certificates",
    "busybox",
];

/// Three layers: the essential packages, Python, and the other tools.
pub(super) fn by_package(rootfs: &RootFs) -> Result<Vec<Vec<u8>>> {
    let owners = owners(rootfs);
    let wanted = rootfs.entries.iter().filter(|entry| is_wanted(&entry.path));
    cut(rootfs, wanted.map(|entry| (entry, layer_by_package(&owners, entry))), 3)
}

/// Ten layers of about the same size, with as much documentation in them as 200 MB have room for.
pub(super) fn by_size(rootfs: &RootFs) -> Result<Vec<Vec<u8>>> {
    let wanted = rootfs.entries.iter().filter(|entry| is_wanted(&entry.path));
    let filling =
        rootfs.entries.iter().filter(|e| !is_wanted(&e.path) && is_documentation(&e.path));
    let mut total = 0;
    let mut layers = HashMap::new();
    let placed = wanted.chain(filling).map_while(|entry| {
        let mut layer = total / TEN_SIZE.div_ceil(TEN);
        if let Kind::HardLink(target) = &entry.kind {
            layer = layers.get(target.as_str()).copied().unwrap_or(layer);
        }
        layers.insert(entry.path.as_str(), layer);
        total += size(entry);
        (total <= TEN_SIZE).then_some((entry, layer))
    });
    cut(rootfs, placed, TEN)
}

fn size(entry: &Entry) -> usize {
    if let Kind::File(data) = &entry.kind { data.len() } else { 0 }
}

/// Whether a path is one of a small image: no documentation and translations, and nothing of this
/// machine, which are its names and the mirror of a package manager that is not in the image.
fn is_wanted(path: &str) -> bool {
    const LEFT_OUT: [&str; 6] =
        ["etc/apt/", "etc/hostname", "etc/resolv.conf", "var/cache/", "var/lib/apt/", "var/log/"];
    !LEFT_OUT.iter().any(|start| path.starts_with(start))
        && (!is_documentation(path) || path.ends_with("/copyright"))
}

fn is_documentation(path: &str) -> bool {
    const DOCUMENTATION: [&str; 6] = ["doc", "doc-base", "info", "lintian", "locale", "man"];
    let share = path.strip_prefix("usr/share/").and_then(|rest| rest.split_once('/'));
    share.is_some_and(|(directory, _)| DOCUMENTATION.contains(&directory))
}

fn layer_by_package(owners: &HashMap<String, &str>, entry: &Entry) -> usize {
    // Both names of a file belong into one layer.
    let path = if let Kind::HardLink(target) = &entry.kind { target } else { &entry.path };
    let owner = owners.get(path.as_str()).copied().unwrap_or_default();
    let is_of = |starts: &[&str]| starts.iter().any(|start| owner.starts_with(start));
    // Byte code is in no list.
    if is_of(&PYTHON_PACKAGES) || path.starts_with("usr/lib/python3") {
        PYTHON
    } else if is_of(&TOOL_PACKAGES) && owner != "perl-base" {
        TOOLS
    } else {
        BASE
    }
}

/// The package of each file.
fn owners(rootfs: &RootFs) -> HashMap<String, &str> {
    let mut owners = HashMap::new();
    for entry in &rootfs.entries {
        let list = entry.path.strip_prefix(PACKAGE_LISTS);
        let Some(package) = list.and_then(|name| name.strip_suffix(".list")) else { continue };
        let package = package.split(':').next().unwrap_or(package);
        let Kind::File(text) = &entry.kind else { continue };
        let Ok(text) = std::str::from_utf8(text) else { continue };
        owners.extend(text.lines().map(|line| (merged(line), package)));
    }
    owners
}

/// A path of a package's list, relative and below `/usr` where that is all that there is.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let is_merged = ["bin/", "lib/", "lib64/", "sbin/"].iter().any(|dir| path.starts_with(dir));
    if is_merged { format!("usr/{path}") } else { path.to_owned() }
}

/// Makes `count` layers of entries with the number of their layer. All directories are in the lowest,
/// and those that lead to a layer's files in that one too, as Docker has them.
fn cut<'a>(
    rootfs: &'a RootFs,
    placed: impl Iterator<Item = (&'a Entry, usize)>,
    count: usize,
) -> Result<Vec<Vec<u8>>> {
    let placed: Vec<_> = placed.collect();
    let directories = rootfs.entries.iter().filter(|entry| matches!(entry.kind, Kind::Directory));
    let directories = directories.map(|entry| (entry.path.as_str(), entry)).collect();
    (0..count).map(|number| layer(&placed, &directories, number)).collect()
}

fn layer(
    placed: &[(&Entry, usize)],
    directories: &HashMap<&str, &Entry>,
    number: usize,
) -> Result<Vec<u8>> {
    let mut tar = LayerTar::new();
    let mut there = HashSet::new();
    for (entry, layer) in placed {
        let is_directory = matches!(entry.kind, Kind::Directory);
        if (is_directory && number != 0) || (!is_directory && *layer != number) {
            continue;
        }
        for (end, _) in entry.path.match_indices('/') {
            let parent = entry.path.get(..end).unwrap_or_default();
            if there.insert(parent) {
                let parent = directories.get(parent).context("a file without a directory")?;
                tar = tar.add(&parent.path, parent.attributes, parent.content());
            }
        }
        if let Kind::HardLink(target) = &entry.kind {
            ensure!(there.contains(target.as_str()), "{} is without its other name", entry.path);
        }
        if there.insert(&entry.path) {
            tar = tar.add(&entry.path, entry.attributes, entry.content());
        }
    }
    Ok(tar.finish())
}

#[cfg(test)]
mod tests {
    use matchlock_testkit::image_archive::{Attributes, Content};

    use super::*;

    fn rootfs() -> Result<RootFs> {
        let of_root = Attributes::of_root;
        let tar = ["etc", "etc/apt", "usr", "usr/bin", "usr/share", "usr/share/doc"]
            .into_iter()
            .fold(LayerTar::new(), LayerTar::directory)
            .directory("usr/share/doc/curl")
            .directory("var")
            .directory("var/lib")
            .directory("var/lib/dpkg")
            .directory("var/lib/dpkg/info")
            .file("etc/apt/sources.list", 0o644, b"a mirror")
            .file("etc/hostname", 0o644, b"this machine")
            .file("etc/passwd", 0o644, b"root")
            .file("usr/bin/curl", 0o755, b"curl")
            .add("usr/bin/curl2", of_root(0o755), Content::HardLink("./usr/bin/curl"))
            .file("usr/bin/perl", 0o755, b"perl")
            .file("usr/bin/python3", 0o755, b"python")
            .file("usr/share/doc/curl/README", 0o644, b"read me")
            .file("usr/share/doc/curl/copyright", 0o644, b"licence")
            .file("var/lib/dpkg/info/curl.list", 0o644, b"/usr\n/bin/curl\n")
            .file("var/lib/dpkg/info/perl-base:amd64.list", 0o644, b"/usr/bin/perl\n")
            .file("var/lib/dpkg/info/python3-minimal.list", 0o644, b"/usr/bin/python3\n");
        RootFs::read(tar.finish().as_slice())
    }

    /// Names of the files that are no directories, and no lists of packages.
    fn files(layer: &[u8]) -> Result<Vec<String>> {
        let entries = RootFs::read(layer)?.entries.into_iter();
        let files = entries.filter(|entry| !matches!(entry.kind, Kind::Directory));
        Ok(files.map(|e| e.path).filter(|path| !path.starts_with(PACKAGE_LISTS)).collect())
    }

    fn directories(layer: &[u8]) -> Result<Vec<String>> {
        let entries = RootFs::read(layer)?.entries.into_iter();
        let directories = entries.filter(|entry| matches!(entry.kind, Kind::Directory));
        Ok(directories.map(|entry| entry.path).collect())
    }

    #[test]
    fn files_go_with_their_package() -> Result<()> {
        let layers = by_package(&rootfs()?)?;
        let copyright = "usr/share/doc/curl/copyright";
        assert_eq!(files(&layers[BASE])?, ["etc/passwd", "usr/bin/perl", copyright]);
        assert_eq!(files(&layers[PYTHON])?, ["usr/bin/python3"]);
        assert_eq!(files(&layers[TOOLS])?, ["usr/bin/curl", "usr/bin/curl2"]);
        assert_eq!(directories(&layers[TOOLS])?, ["usr", "usr/bin"]);
        Ok(())
    }

    #[test]
    fn ten_layers_have_documentation_too_and_nothing_of_this_machine() -> Result<()> {
        let layers = by_size(&rootfs()?)?;
        assert_eq!(layers.len(), TEN);
        let lowest = files(&layers[0])?;
        assert!(lowest.contains(&"usr/share/doc/curl/README".to_owned()));
        assert!(lowest.contains(&"etc/passwd".to_owned()));
        assert!(!lowest.iter().any(|path| path == "etc/apt/sources.list"));
        assert!(!lowest.iter().any(|path| path == "etc/hostname"));
        assert!(layers[1..].iter().all(|layer| files(layer).is_ok_and(|files| files.is_empty())));
        Ok(())
    }

    #[test]
    fn a_hard_link_is_not_parted_from_its_file() -> Result<()> {
        let rootfs = rootfs()?;
        let placed = rootfs.entries.iter().map(|e| (e, usize::from(e.path.ends_with("curl2"))));
        let error = cut(&rootfs, placed, 2).expect_err("a link into another layer");
        assert!(error.to_string().contains("usr/bin/curl2"));
        Ok(())
    }
}
