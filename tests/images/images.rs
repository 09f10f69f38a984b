//! Small images, made here.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use matchlock_testkit::TestImage;
use matchlock_testkit::image_archive::{Format, ImageArchive, LayerTar, Packing};
use serde_json::Value;

/// An image with a shell, a user `app` (1000:1001) and these settings.
pub(crate) fn with_shell(config: Value) -> ImageArchive {
    let passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
    let programs = ["sh", "cat", "echo", "id", "stat", "ls"];
    let layer = LayerTar::new().file("bin/busybox", 0o755, &busybox());
    let layer = programs
        .iter()
        .fold(layer, |layer, name| layer.symlink(&format!("bin/{name}"), "busybox"))
        .file("etc/passwd", 0o644, passwd)
        .file("etc/group", 0o644, b"root:x:0:\napp:x:1001:\n")
        .directory("srv/work");
    ImageArchive::new(vec![layer.finish()]).config(config)
}

/// An archive as bytes.
pub(crate) fn bytes(image: &ImageArchive, format: Format, packing: Packing) -> Vec<u8> {
    let mut archive = Vec::new();
    image.write(&mut archive, format, packing, "made:1").expect("memory does not fail");
    archive
}

/// An archive in a file.
pub(crate) fn file(image: &ImageArchive, path: &Path) {
    fs::write(path, bytes(image, Format::Oci, Packing::Gzip)).expect("write");
}

/// The static program of [`TestImage::Scratch`].
fn busybox() -> Vec<u8> {
    let archive = fs::read(TestImage::Scratch.path()).expect("read");
    let mut files = tar::Archive::new(&archive[..]);
    for file in files.entries().expect("a tar archive") {
        let file = file.expect("an entry");
        if file.path().expect("a path").ends_with("layer.tar") {
            let mut layer = tar::Archive::new(file);
            let entries = layer.entries().expect("a tar archive");
            for entry in entries {
                let mut entry = entry.expect("an entry");
                if entry.path().expect("a path").ends_with("busybox") {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).expect("read");
                    return bytes;
                }
            }
        }
    }
    panic!("no busybox in the scratch image")
}
