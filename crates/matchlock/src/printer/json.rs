//! Where the JSON of a command goes.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::error::CliError;

/// Where the one JSON object of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum JsonOutput {
    /// It is not asked for.
    #[default]
    Off,
    /// Standard output, which then has no text for people.
    Stdout,
    /// Standard error, as its last line.
    Stderr,
    /// A file, which is there as a whole or not at all.
    File(&'static Path),
}

impl JsonOutput {
    /// What the flag asks for: a file, or the usual place of the command.
    pub(crate) fn new(flag: Option<&OsStr>, usual: Self) -> Self {
        match flag {
            None => Self::Off,
            Some(file) if file.is_empty() => usual,
            // There is one for the whole process, and everything that reports has a copy.
            Some(file) => Self::File(Box::leak(PathBuf::from(file).into_boxed_path())),
        }
    }

    /// Refuses a file that could not be written at the end.
    pub(super) fn check(self) -> Result<(), CliError> {
        let Self::File(path) = self else { return Ok(()) };
        if path.is_dir() {
            return Err(unwritable(path, &rustix::io::Errno::ISDIR.into()));
        }
        let checked = match target(path) {
            Target::Replace(file) => access(directory(&file), Access::WRITE_OK | Access::EXEC_OK),
            Target::Append(file) => access(&file, Access::WRITE_OK),
        };
        checked.map_err(|error| unwritable(path, &error.into()))
    }
}

/// Writes a line to the file.
pub(super) fn write(path: &Path, line: &str) -> Result<(), CliError> {
    let written = match target(path) {
        Target::Replace(file) => replace(&file, line),
        Target::Append(file) => {
            OpenOptions::new().append(true).open(file).and_then(|mut file| writeln!(file, "{line}"))
        }
    };
    written.map_err(|error| unwritable(path, &error))
}

/// How a file is written.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// A regular file, or none yet: another one takes its place.
    Replace(PathBuf),
    /// A pipe, a device, a descriptor of ours: it stays what it is.
    Append(PathBuf),
}

fn target(path: &Path) -> Target {
    // /dev/stderr leads to whatever standard error is, and may be a file that has text already.
    if path.starts_with("/dev") || path.starts_with("/proc") {
        return Target::Append(path.to_owned());
    }
    // A link stays a link: the file that it leads to is replaced.
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => Target::Append(file),
        _ => Target::Replace(file),
    }
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A reader sees the old content, or all of the new.
fn replace(file: &Path, line: &str) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = directory(file).join(name);
    let written = File::create_new(&temporary)
        .and_then(|mut new| writeln!(new, "{line}"))
        .and_then(|()| std::fs::rename(&temporary, file));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::of_io(format!("cannot write the JSON to {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn leaked(path: &Path) -> JsonOutput {
        JsonOutput::new(Some(path.as_os_str()), JsonOutput::Stdout)
    }

    #[test]
    fn a_flag_without_a_file_means_the_usual_place() {
        let usual = JsonOutput::Stderr;
        assert_eq!(JsonOutput::new(None, usual), JsonOutput::Off);
        assert_eq!(JsonOutput::new(Some(OsStr::new("")), usual), usual);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("out.json"), dir.path().join("link"));
        for line in ["{\"a\":1}", "{}"] {
            leaked(&file).check().expect("writable");
            write(&file, line).expect("written");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), format!("{line}\n"));
        }
        symlink(&file, &link).expect("a link");
        write(&link, "[]").expect("written");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "[]\n");
        assert!(link.is_symlink(), "it leads to the file still");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a list").count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_beforehand() {
        for path in ["/no/such/directory/out.json", "/proc/no-such-file", "/tmp"] {
            let error = leaked(Path::new(path)).check().expect_err("refused").to_string();
            assert!(error.starts_with(&format!("cannot write the JSON to {path}: ")), "{error}");
        }
    }

    #[test]
    fn a_device_stays_a_device() {
        assert_eq!(target(Path::new("/dev/stderr")), Target::Append("/dev/stderr".into()));
        leaked(Path::new("/dev/null")).check().expect("writable");
        write(Path::new("/dev/null"), "{}").expect("written");
    }
}
