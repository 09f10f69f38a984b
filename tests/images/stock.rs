//! What the cases share: a store with the test images, imported once, and a registry that has them.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use matchlock_testkit::docker_registry::{DockerRegistry, Options};
use matchlock_testkit::{Invocation, Lab, TestImage, repository};
use tempfile::TempDir;

/// What costs time to make. Each is made by the first case that wants it.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    imported: OnceLock<Lab>,
    registry: OnceLock<DockerRegistry>,
    odd: OnceLock<Odd>,
}

/// An archive with everything that is rare, see `programs/odd_image.py`.
#[derive(Debug)]
struct Odd {
    directory: TempDir,
}

impl Stock {
    /// A home with Debian's image in its store, as `debian:local`. The files of its content are the
    /// same for all: none of them is ever written to.
    pub(crate) fn lab(&self) -> Lab {
        let from = store(self.imported.get_or_init(imported));
        let lab = Lab::new();
        let to = store(&lab);
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(to.join("blobs")).expect("mkdir");
        fs::copy(from.join("metadata.db"), to.join("metadata.db")).expect("copy");
        for name in names(&from.join("blobs")) {
            let link = to.join("blobs").join(&name);
            fs::hard_link(from.join("blobs").join(&name), link).expect("link");
        }
        lab
    }

    /// A registry on plain HTTP without credentials, with `scratch:1`.
    pub(crate) fn registry(&self) -> &DockerRegistry {
        self.registry.get_or_init(|| {
            let registry = DockerRegistry::start(Options::default());
            registry.push(&TestImage::Scratch.path(), "scratch:1");
            registry
        })
    }

    /// Debian's image with two layers more, in which everything is that is rare.
    pub(crate) fn odd(&self) -> PathBuf {
        let odd = self.odd.get_or_init(|| {
            let odd = Odd { directory: tempfile::tempdir().expect("tempdir") };
            let paths = [TestImage::Debian.path(), odd.archive()];
            python("odd_image.py", &paths.each_ref().map(PathBuf::as_path));
            odd
        });
        odd.archive()
    }
}

impl Odd {
    fn archive(&self) -> PathBuf {
        self.directory.path().join("odd.tar")
    }
}

fn imported() -> Lab {
    let lab = Lab::new();
    let archive = fs::File::open(TestImage::Debian.path()).expect("open");
    let import = lab.matchlock(&["image", "import", "debian:local"]).stdin(archive);
    import.finish().expect(0);
    lab
}

/// The store of a home.
pub(crate) fn store(lab: &Lab) -> PathBuf {
    lab.home().join(".cache/matchlock/images")
}

/// Names of what is in a directory, sorted; of one that is not there, none.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Names of the blobs in the store.
pub(crate) fn blobs(lab: &Lab) -> Vec<String> {
    names(&store(lab).join("blobs"))
}

/// What a program of ours for Python says.
pub(crate) fn python(program: &str, arguments: &[&Path]) -> String {
    let mut python = Command::new("python3");
    python.arg(self::program(program)).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.output().expect("python3");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Where such a program is.
pub(crate) fn program(name: &str) -> PathBuf {
    repository().join("tests/images/programs").join(name)
}

/// `matchlock run --image IMAGE FLAGS -- ARGV`.
pub(crate) fn run(lab: &Lab, image: &str, flags: &[&str], argv: &[&str]) -> Invocation {
    let mut args = vec!["run", "--image", image];
    args.extend(flags);
    if !argv.is_empty() {
        args.push("--");
        args.extend(argv);
    }
    lab.matchlock(&args)
}
