//! Small images of layers that are made here, without a store and without a registry.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use matchlock_core::image::digest::Digest;
use matchlock_core::image::erofs::write_index;
use matchlock_core::image::layer::{Builder, Layer};
use matchlock_core::image::manifest::RuntimeConfig;
use matchlock_core::image::merge::{Limits, Merged};
use matchlock_core::image::store::RootImage;
use matchlock_core::image::tree::Attributes;

/// Programs of the host in the lowest layer, with the libraries that they need.
const PROGRAMS: [&str; 16] = [
    "cat", "chmod", "chown", "cp", "df", "env", "id", "ls", "mkdir", "mv", "pwd", "rm", "sh",
    "stat", "touch", "wc",
];

/// An image in the making.
#[derive(Debug)]
pub(crate) struct Layers {
    layers: Vec<Layer>,
}

impl Layers {
    /// An image of one layer with a shell.
    pub(crate) fn with_shell() -> Self {
        Self { layers: Vec::new() }.add(|layer| {
            for directory in ["/etc", "/tmp", "/proc"] {
                layer.add_dir(directory.as_bytes(), mode(0o755)).expect("a directory");
            }
            let programs = PROGRAMS.map(|name| format!("/bin/{name}"));
            let libraries = programs.iter().flat_map(|program| libraries(program));
            let files: BTreeSet<String> = libraries.chain(programs.iter().cloned()).collect();
            for path in files {
                let content = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
                layer.add_file(path.as_bytes(), mode(0o755), content).expect("a program");
            }
        })
    }

    /// One more layer above the others.
    pub(crate) fn add(mut self, fill: impl FnOnce(&mut Builder)) -> Self {
        let mut builder = Builder::new(tempfile::tempfile().expect("a file")).expect("a layer");
        fill(&mut builder);
        self.layers.push(builder.finish().expect("a layer"));
        self
    }

    /// The image of all layers.
    pub(crate) fn image(self, config: RuntimeConfig) -> RootImage {
        let length = |file: &File| file.metadata().expect("a file").len();
        let lengths: Vec<u64> = self.layers.iter().map(|layer| length(&layer.file)).collect();
        let (files, trees): (Vec<_>, Vec<_>) =
            self.layers.into_iter().map(|layer| (layer.file, layer.tree)).unzip();
        let index = tempfile::tempfile().expect("a file");
        let mut merged = Merged::within(Limits::default());
        for tree in trees {
            merged.apply(tree).expect("small layers");
        }
        let index = write_index(index, &merged.into_tree(), &lengths).expect("an index");
        let files =
            std::iter::once(index).chain(files).map(|file| (length(&file), for_reading(&file)));
        RootImage {
            files: files.map(|(length, file)| (file, length)).collect(),
            config,
            reference: "made:here".to_owned(),
            digest: Digest::of(b"made here"),
        }
    }
}

/// Attributes of root's with these permissions.
pub(crate) fn mode(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

/// The file opened anew, as the store opens its files.
pub(crate) fn for_reading(file: &File) -> File {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("readable")
}

/// What the dynamic linker would load, itself with it.
fn libraries(program: &str) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.filter(|path| fs::metadata(Path::new(path)).is_ok()).map(str::to_owned).collect()
}
