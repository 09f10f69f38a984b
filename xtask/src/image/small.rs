//! Images around one static program.

use matchlock_testkit::image_archive::LayerTar;
use serde_json::{Value, json};

/// Layers on top of the first one.
const MANY: u32 = 127;
/// Names by which busybox is called in the image of many layers.
const APPLETS: [&str; 8] = ["cat", "echo", "find", "ls", "mount", "sh", "sha256sum", "stat"];

/// A busybox and 127 layers on it, as [`TestImage::ManyLayers`] says.
///
/// [`TestImage::ManyLayers`]: matchlock_testkit::TestImage::ManyLayers
pub(super) fn many_layers(busybox: &[u8]) -> Vec<Vec<u8>> {
    let mut base = LayerTar::new().directory("bin").file("bin/busybox", 0o755, busybox);
    for applet in APPLETS {
        base = base.symlink(&format!("bin/{applet}"), "busybox");
    }
    let base = ["etc", "proc", "dev", "sys", "root", "tmp", "layers"]
        .into_iter()
        .fold(base, LayerTar::directory);
    let layer = |number: u32| {
        let content = format!("{number}\n");
        let tar = LayerTar::new()
            .directory("layers")
            .file(&format!("layers/{number}"), 0o644, content.as_bytes())
            .file("layers/top", 0o644, content.as_bytes());
        let tar = if number.is_multiple_of(2) {
            tar.whiteout(&format!("layers/{}", number - 1))
        } else {
            tar
        };
        tar.finish()
    };
    std::iter::once(base.finish()).chain((1..=MANY).map(layer)).collect()
}

/// One program and nothing else.
pub(super) fn scratch(busybox: &[u8]) -> Vec<u8> {
    LayerTar::new().file("busybox", 0o755, busybox).finish()
}

/// How [`scratch`] is run.
pub(super) fn config() -> Value {
    json!({ "Entrypoint": ["/busybox"], "Cmd": ["echo", "hello", "from", "scratch"] })
}
