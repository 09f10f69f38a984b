//! The files that say what to build: the Dockerfile and `.dockerignore`. Whoever made a context may have
//! put links in their places, so they are opened as everything of a context is: beneath it. Only a file
//! that the user names is opened as the user names it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::context::Context;
use super::error::BuildError;
use super::files::{Files as _, shown};
use super::ignore::{self, Ignore};
use super::source;

/// Name of the Dockerfile in a context.
const DOCKERFILE: &str = "Dockerfile";

/// What an ignore file is called, alone or behind the Dockerfile's name.
const IGNORE: &str = ".dockerignore";

/// The text of the Dockerfile, and the context without what its ignore file hides: the one beside the
/// Dockerfile, or else the context's.
///
/// `dockerfile` is the file that the user names, `None` the context's own. `name` means it in errors.
pub(super) fn open(
    dockerfile: Option<&Path>,
    name: &str,
    context: &Path,
) -> Result<(Vec<u8>, Context), BuildError> {
    let path = context.display().to_string();
    if !context.is_dir() {
        return Err(BuildError::NoContext(path));
    }
    let fail = |source| BuildError::Read { path: path.clone(), source };
    let context = Context::open(context, Ignore::default()).map_err(fail)?;
    let text = match dockerfile {
        Some(path) => named(path)?,
        None => beneath(&context, DOCKERFILE, source::MAX_SIZE)?,
    };
    let text = text.ok_or_else(|| BuildError::NoDockerfile(name.to_owned()))?;
    let ignore = match beside(dockerfile, &context)? {
        Some(ignore) => Some(ignore),
        None => ignore_file(&context, IGNORE)?,
    };
    Ok((text, context.hiding(ignore.unwrap_or_default())))
}

/// The ignore file that has the Dockerfile's name in its own.
fn beside(dockerfile: Option<&Path>, context: &Context) -> Result<Option<Ignore>, BuildError> {
    let Some(path) = dockerfile else {
        return ignore_file(context, &format!("{DOCKERFILE}{IGNORE}"));
    };
    let (Some(directory), Some(file)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(None);
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let directory = Context::open(directory, Ignore::default())
        .map_err(|source| BuildError::Read { path: directory.display().to_string(), source })?;
    ignore_file(&directory, &format!("{file}{IGNORE}"))
}

fn ignore_file(directory: &Context, name: &str) -> Result<Option<Ignore>, BuildError> {
    let Some(bytes) = beneath(directory, name, ignore::MAX_SIZE)? else { return Ok(None) };
    let ignore = Ignore::parse(&bytes).map_err(|trouble| BuildError::Ignore {
        file: name.to_owned(),
        line: trouble.line,
        source: trouble.problem,
    });
    ignore.map(Some)
}

/// A file of a directory; `None` when there is none. A link that leads to nothing within the directory is
/// an error: to leave the file out would be a surprise.
fn beneath(directory: &Context, name: &str, most: usize) -> Result<Option<Vec<u8>>, BuildError> {
    let path = name.as_bytes();
    let failed = |source| BuildError::File { name: shown(path), source: Box::new(source) };
    match directory.find(path).map_err(failed)? {
        Some((path, _)) => {
            let (file, _) = directory.open_file(&path).map_err(failed)?;
            bounded(file, name, most).map(Some)
        }
        None if directory.has_link(path).map_err(failed)? => {
            Err(BuildError::LinkOutside(shown(path)))
        }
        None => Ok(None),
    }
}

/// A file that the user names, wherever it is.
fn named(path: &Path) -> Result<Option<Vec<u8>>, BuildError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => bounded(file, &name, source::MAX_SIZE).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BuildError::Read { path: name, source }),
    }
}

/// A file, and one byte more than what is too long.
fn bounded(file: File, name: &str, most: usize) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let read = file.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| BuildError::Read { path: name.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const SECRET: &str = "hunter2-of-the-host";

    /// A context beside a file of the host.
    fn lab() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("context/docker")).expect("directories");
        fs::write(dir.path().join("outside"), SECRET).expect("a file");
        dir
    }

    fn opened(dir: &tempfile::TempDir, dockerfile: Option<&str>) -> Result<String, String> {
        let dockerfile = dockerfile.map(|path| dir.path().join(path));
        let opened = open(dockerfile.as_deref(), "Dockerfile", &dir.path().join("context"));
        let text = |(text, _): (Vec<u8>, _)| String::from_utf8(text).expect("text");
        opened.map(text).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error} {}", cause.unwrap_or_default())
        })
    }

    /// Issue 9: its first line was shown in an error.
    #[test]
    fn a_dockerfile_that_is_a_link_out_of_the_context_is_not_read() {
        for target in ["../outside", "a", "/etc/passwd", "docker/../../outside"] {
            let dir = lab();
            let context = dir.path().join("context");
            symlink("../outside", context.join("a")).expect("a link");
            symlink(target, context.join("Dockerfile")).expect("a link");
            let error = opened(&dir, None).expect_err("it leads outside");
            assert!(error.starts_with("Dockerfile is a link"), "{error}");
            assert!(!error.contains(SECRET), "{error}");
            // What the user names is what the user means.
            opened(&dir, Some("context/Dockerfile")).expect("named");
        }
    }

    #[test]
    fn a_link_within_the_context_is_followed() {
        let dir = lab();
        let context = dir.path().join("context");
        fs::write(context.join("docker/File"), "FROM scratch").expect("a file");
        for target in ["docker/File", "/docker/File", "../docker/File"] {
            symlink(target, context.join("Dockerfile")).expect("a link");
            assert_eq!(opened(&dir, None).as_deref(), Ok("FROM scratch"), "{target}");
            fs::remove_file(context.join("Dockerfile")).expect("removed");
        }
    }

    #[test]
    fn an_ignore_file_that_is_a_link_out_of_its_directory_is_not_read() {
        for (name, dockerfile) in [
            (".dockerignore", None),
            ("Dockerfile.dockerignore", None),
            (".dockerignore", Some("context/Dockerfile")),
            ("Dockerfile.dockerignore", Some("context/Dockerfile")),
        ] {
            let dir = lab();
            let context = dir.path().join("context");
            fs::write(context.join("Dockerfile"), "FROM scratch").expect("a file");
            symlink("../outside", context.join(name)).expect("a link");
            let error = opened(&dir, dockerfile).expect_err("it leads outside");
            assert!(error.starts_with(&format!("{name} is a link")), "{error}");
        }
    }

    #[test]
    fn what_is_missing_or_no_file_is_told() {
        let dir = lab();
        assert_eq!(opened(&dir, None).expect_err("missing"), "Dockerfile not found: Dockerfile ");
        assert!(opened(&dir, Some("none")).expect_err("missing").contains("not found"));
        fs::create_dir(dir.path().join("context/Dockerfile")).expect("a directory");
        opened(&dir, None).expect_err("a directory");
    }
}
