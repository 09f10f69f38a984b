//! The root file system that all images are cut out of.

use std::fs;
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use matchlock_testkit::image_archive::{Attributes, Content};

use crate::run;
use crate::setup::{self, Need};

/// What is in it besides the packages that are essential.
pub(super) const PACKAGES: [&str; 5] =
    ["python3", "curl", "git", "ca-certificates", "busybox-static"];
/// Latest time of a file, 2026-01-01: what installing makes has this one. Python's byte code is made
/// to be checked by the source's hash instead of its time then, as it has to be.
const LATEST_TIME: &str = "1767225600";

/// A root file system in memory: its entries sorted by path, without the root itself.
#[derive(Debug)]
pub(super) struct RootFs {
    pub(super) entries: Vec<Entry>,
}

/// A file of any type. The path is relative, without `./`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) attributes: Attributes,
    pub(super) kind: Kind,
}

/// What an entry is; the targets of hard links are paths as in [`Entry`].
#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    HardLink(String),
    CharacterDevice(u32, u32),
}

impl RootFs {
    /// Installs the packages into an empty directory, and reads the result.
    pub(super) fn make(suite: &str) -> Result<Self> {
        setup::ensure(&[Need::Mmdebstrap])?;
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let sources = directory.path().join("sources.list");
        fs::write(&sources, package_sources()?)?;
        let options = directory.path().join("apt.conf");
        fs::write(&options, proxies()?)?;
        let tar = directory.path().join("rootfs.tar");
        // Documentation is left out later: mmdebstrap's own filter takes longer than all the rest.
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap
            .env("SOURCE_DATE_EPOCH", LATEST_TIME)
            .args(["--quiet", "--variant=essential", "--format=tar", "--dpkgopt=force-unsafe-io"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg(format!("--aptopt={}", options.display()))
            .arg(suite)
            .arg(&tar)
            .arg(&sources)
            .stdin(Stdio::null());
        run::checked(&mut mmdebstrap).context("cannot install packages into an image")?;
        Self::read(BufReader::new(fs::File::open(&tar)?))
    }

    /// Reads a tar stream.
    pub(super) fn read(tar: impl Read) -> Result<Self> {
        let mut entries = Vec::new();
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries()? {
            let entry = Entry::read(entry?).context("cannot read the root file system")?;
            if !entry.path.is_empty() {
                entries.push(entry);
            }
        }
        Ok(Self { entries })
    }

    /// A static program, and a shell and everything else by other names.
    pub(super) fn busybox(&self) -> Result<&[u8]> {
        let file = self.entries.iter().find_map(|entry| match (&entry.kind, entry.path.as_str()) {
            (Kind::File(data), "usr/bin/busybox" | "bin/busybox") => Some(data.as_slice()),
            _ => None,
        });
        file.context("no busybox in the root file system")
    }
}

impl Entry {
    fn read(mut entry: tar::Entry<'_, impl Read>) -> Result<Self> {
        let path = relative(entry.path()?.to_str().context("a name that is not UTF-8")?);
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let key = extension?.key()?.to_owned();
            ensure!(!key.starts_with("SCHILY."), "{path} has {key}, which would be lost");
        }
        let header = entry.header();
        let attributes = Attributes {
            mode: header.mode()? & 0o7777,
            owner: (header.uid()?, header.gid()?),
            mtime: header.mtime()?,
        };
        let target = || -> Result<String> {
            let target = entry.link_name()?.context("a link without a target")?;
            Ok(target.to_str().context("a target that is not UTF-8")?.to_owned())
        };
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink(target()?),
            tar::EntryType::Link => Kind::HardLink(relative(&target()?)),
            tar::EntryType::Char => {
                let (major, minor) = (header.device_major()?, header.device_minor()?);
                Kind::CharacterDevice(major.unwrap_or_default(), minor.unwrap_or_default())
            }
            tar::EntryType::Regular => {
                let mut data = Vec::new();
                entry.read_to_end(&mut data)?;
                Kind::File(data)
            }
            other => bail!("{path} is of type {other:?}"),
        };
        Ok(Self { path, attributes, kind })
    }

    /// The entry as layers take it.
    pub(super) fn content(&self) -> Content<'_> {
        match &self.kind {
            Kind::Directory => Content::Directory,
            Kind::File(data) => Content::File(data),
            Kind::Symlink(target) => Content::Symlink(target),
            Kind::HardLink(target) => Content::HardLink(target),
            Kind::CharacterDevice(major, minor) => Content::CharacterDevice(*major, *minor),
        }
    }
}

fn relative(path: &str) -> String {
    path.trim_start_matches("./").trim_matches('/').to_owned()
}

/// The release of the distribution that this machine runs (os-release(5)).
pub(super) fn suite() -> Result<String> {
    os_release("VERSION_CODENAME")
}

fn os_release(name: &str) -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = value.with_context(|| format!("no {name} in /etc/os-release"))?;
    Ok(value.trim_matches('"').to_owned())
}

/// Where APT of this machine has the distribution's own packages from, as lines of `sources.list`.
fn package_sources() -> Result<String> {
    let found = enabled_sources()?;
    if !found.is_empty() {
        return Ok(found);
    }
    // Before the first update nothing says whose packages a source has.
    setup::refresh()?;
    let found = enabled_sources()?;
    ensure!(!found.is_empty(), "APT has no source of this distribution's packages");
    Ok(found)
}

fn enabled_sources() -> Result<String> {
    let id = os_release("ID")?;
    let (first, rest) = id.split_at_checked(1).context("no name of a distribution")?;
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]);
    apt.arg("Created-By: Packages");
    apt.arg(format!("Origin: {}{rest}", first.to_uppercase()));
    let lines = run::output(&mut apt).context("cannot ask APT for its sources")?;
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// The proxies that APT of this machine uses, as a configuration.
fn proxies() -> Result<String> {
    let mut apt = Command::new("apt-config");
    apt.args(["dump", "--no-empty", "--format", "%F \"%v\";%n", "Acquire"]);
    let lines = run::output(&mut apt).context("cannot ask APT for its configuration")?;
    let proxies = lines.lines().filter(|line| line.to_ascii_lowercase().contains("proxy"));
    Ok(proxies.map(|line| format!("{line}\n")).collect())
}
