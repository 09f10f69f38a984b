//! `--disk`: `host_path:guest_mount[:options]` and `@volume:guest_mount[:options]`.

use std::path::PathBuf;

use matchlock_core::volume::{Access, Attached, VolumeError};
use matchlock_core::{Classified, DescribeChain, MountPoint};

use super::lists;
use crate::environment::Environment;
use crate::error::{CliError, words};

/// A disk to attach, and where the sandbox has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskSpec {
    /// The text that this was read from.
    pub(crate) text: String,
    pub(crate) source: DiskSource,
    /// Absolute, without `.`, `..` and empty parts.
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// Owner and group of the root directory.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Which disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskSource {
    /// A volume, by its name.
    Volume(String),
    /// An image of a file system.
    File(PathBuf),
}

/// Reads all values of the flag.
pub(crate) fn parse(values: &[String]) -> Result<Vec<DiskSpec>, CliError> {
    let mut specs: Vec<DiskSpec> = Vec::new();
    for text in texts(values)? {
        let spec = parse_one(&text).map_err(|why| invalid(&text, &why))?;
        if specs.iter().any(|other| other.target == spec.target) {
            return Err(invalid(&text, &format!("{} is mounted twice", spec.target)));
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// Opens and locks the disks, as long as the result lives.
pub(crate) fn attach(
    specs: &[DiskSpec],
    environment: &Environment,
) -> Result<(Vec<matchlock_core::DiskSpec>, Vec<Attached>), CliError> {
    let attached = specs.iter().map(|spec| attach_one(spec, environment));
    Ok(attached.collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
}

fn attach_one(
    spec: &DiskSpec,
    environment: &Environment,
) -> Result<(matchlock_core::DiskSpec, Attached), CliError> {
    let target: MountPoint =
        spec.target.parse().map_err(|error| invalid(&spec.text, &describe(&error)))?;
    let access = if spec.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let refused = |error: VolumeError| {
        let refused = invalid(&spec.text, &describe(&error));
        match error.hint() {
            Some(hint) => refused.hinted(words(hint)),
            None => refused,
        }
    };
    let source = match &spec.source {
        DiskSource::Volume(name) => {
            matchlock_core::DiskSource::Volume(name.parse().map_err(refused)?)
        }
        DiskSource::File(path) => matchlock_core::DiskSource::File(path.clone()),
    };
    let disk = matchlock_core::DiskSpec { source, target, access, owner: spec.owner };
    let attached = disk.claim(&environment.volumes()?).map_err(refused)?;
    disk.check().map_err(|error| invalid(&spec.text, &describe(&error)))?;
    Ok((disk, attached))
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    DescribeChain(error).to_string()
}

/// The error about one of them.
fn invalid(text: &str, why: &str) -> CliError {
    CliError::new(format!("invalid disk mount {text:?}: {why}"))
}

/// The flag is a list with commas, and so are the options of a disk: what looks like an option
/// belongs to the disk before it.
fn texts(values: &[String]) -> Result<Vec<String>, CliError> {
    let mut texts: Vec<String> = Vec::new();
    for value in values {
        let items = lists::split(std::slice::from_ref(value))
            .map_err(|error| invalid(value, &error.to_string()))?;
        for (index, item) in items.into_iter().enumerate() {
            match texts.last_mut() {
                Some(last) if index > 0 && is_option(&item) => {
                    last.push(',');
                    last.push_str(&item);
                }
                _ => texts.push(item),
            }
        }
    }
    Ok(texts)
}

fn is_option(text: &str) -> bool {
    matches!(text, "ro" | "readonly") || text.starts_with("uid=") || text.starts_with("gid=")
}

fn parse_one(text: &str) -> Result<DiskSpec, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match *parts {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err("expected host_path:guest_mount[:ro] or @volume:guest_mount[:ro]".into()),
    };
    let source = match source.strip_prefix('@') {
        Some(name) => DiskSource::Volume(name.to_owned()),
        None if source.is_empty() => return Err("the host path is empty".into()),
        None => DiskSource::File(std::path::absolute(source).map_err(|error| error.to_string())?),
    };
    let target = guest_mount(target)?;
    let (read_only, owner) = read_options(options)?;
    Ok(DiskSpec { text: text.to_owned(), source, target, read_only, owner })
}

/// An absolute path of harmless characters that is not the root itself.
fn guest_mount(text: &str) -> Result<String, String> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let steps = parts.iter().any(|part| matches!(*part, "." | ".."));
    if !text.starts_with('/') || parts.is_empty() || steps || !text.bytes().all(harmless) {
        return Err(format!(
            "the guest mount {text:?} must be an absolute path of letters, digits, '_', '.' and '-'"
        ));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn read_options(text: &str) -> Result<(bool, Option<(u32, u32)>), String> {
    let (mut read_only, mut uid, mut gid) = (false, None, None);
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let id = |value: &str| {
            value.parse::<u32>().map(Some).map_err(|_| format!("{option:?} holds no numeric id"))
        };
        match option.split_once('=') {
            None if matches!(option, "ro" | "readonly") => read_only = true,
            Some(("uid", value)) => uid = id(value)?,
            Some(("gid", value)) => gid = id(value)?,
            _ => return Err(format!("unknown option {option:?}: use ro, or uid=U,gid=G")),
        }
    }
    match (uid, gid) {
        (None, None) => Ok((read_only, None)),
        (Some(_), Some(_)) if read_only => {
            Err("the owner of a disk that is read-only cannot be set".into())
        }
        (Some(uid), Some(gid)) => Ok((false, Some((uid, gid)))),
        _ => Err("uid and gid go together: uid=U,gid=G".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(values: &[&str]) -> Result<Vec<DiskSpec>, String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        parse(&values).map_err(|error| error.to_string())
    }

    fn one(value: &str) -> DiskSpec {
        let mut specs = parsed(&[value]).expect("valid");
        assert_eq!(specs.len(), 1, "{value}");
        specs.remove(0)
    }

    #[test]
    fn volumes_and_files_with_their_options() {
        let volume = one("@data:/var/lib/data");
        assert_eq!(volume.source, DiskSource::Volume("data".into()));
        assert_eq!((volume.target.as_str(), volume.read_only), ("/var/lib/data", false));
        assert_eq!(volume.owner, None);
        let file = one("/srv/disk.ext4://mnt//disk/:ro");
        assert_eq!(file.source, DiskSource::File("/srv/disk.ext4".into()));
        assert_eq!((file.target.as_str(), file.read_only), ("/mnt/disk", true));
        assert!(one("/a:/b:readonly").read_only);
        assert!(!one("/a:/b:").read_only);
        let DiskSource::File(path) = one("disk.ext4:/b").source else { panic!("a file") };
        assert!(path.is_absolute() && path.ends_with("disk.ext4"), "{path:?}");
        assert_eq!(one("@d:/d:uid=1000,gid=100").owner, Some((1000, 100)));
    }

    #[test]
    fn commas_divide_disks_but_not_their_options() {
        let specs = parsed(&["@a:/a:uid=1,gid=2,@b:/b:ro", "@c:/c"]).expect("valid");
        let targets: Vec<&str> = specs.iter().map(|spec| spec.target.as_str()).collect();
        assert_eq!(targets, ["/a", "/b", "/c"]);
        assert_eq!(specs[0].owner, Some((1, 2)));
        assert!(specs[1].read_only && !specs[2].read_only);
        let quoted = one("\"/srv/a,b.ext4:/a\"");
        assert_eq!(quoted.source, DiskSource::File("/srv/a,b.ext4".into()));
    }

    #[test]
    fn what_is_no_disk_is_refused_with_its_text() {
        let cases = [
            ("x", "expected host_path:guest_mount[:ro] or @volume:guest_mount[:ro]"),
            ("/a:/b:ro:x", "expected host_path:guest_mount[:ro]"),
            (":/b", "the host path is empty"),
            ("/a:b", "the guest mount \"b\" must be"),
            ("/a:/", "the guest mount \"/\" must be"),
            ("/a:/b/../c", "must be an absolute path"),
            ("/a:/b c", "must be an absolute path"),
            ("/a:/b:rw", "unknown option \"rw\""),
            ("/a:/b:uid=1", "uid and gid go together"),
            ("/a:/b:uid=x,gid=1", "\"uid=x\" holds no numeric id"),
            ("/a:/b:ro,uid=1,gid=1", "read-only cannot be set"),
        ];
        for (text, why) in cases {
            let error = parsed(&[text]).expect_err(text);
            assert!(error.starts_with(&format!("invalid disk mount {text:?}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        let twice = parsed(&["@a:/d", "@b:/d/"]).expect_err("twice");
        assert_eq!(twice, "invalid disk mount \"@b:/d/\": /d is mounted twice");
        assert!(parsed(&["\"a"]).expect_err("quote").starts_with("invalid disk mount \"\\\"a\": "));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_targets_stay_inside(text in "[@a-c/:.,=0-9 uidgr\"]{0,30}") {
            for spec in parsed(&[&text]).unwrap_or_default() {
                prop_assert!(spec.target.starts_with('/') && spec.target.len() > 1);
                prop_assert!(!spec.target.split('/').any(|part| part == ".." || part == "."));
            }
        }
    }
}
