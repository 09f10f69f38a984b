//! Archives of images, made here: what `docker save` writes, with as little in it as can be.

use sha2::{Digest as _, Sha256};

/// An archive of one image with one layer that holds one file.
pub(crate) fn docker_archive(tag: &str, config: &str) -> Vec<u8> {
    let (layer, config) = image(config);
    let name = format!("{}.json", hex(config.as_bytes()));
    let manifest =
        format!(r#"[{{"Config":"{name}","RepoTags":["{tag}"],"Layers":["1/layer.tar"]}}]"#);
    tar(&[
        (&name, config.as_bytes()),
        ("1/layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ])
}

/// A layer that holds one file, and the configuration of an image that consists of it.
pub(crate) fn image(config: &str) -> (Vec<u8>, String) {
    let layer = tar(&[("greeting", b"hello from a layer\n")]);
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{config},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        architecture(),
        hex(&layer)
    );
    (layer, config)
}

/// The architecture of this host as images have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive of regular files in POSIX's ustar.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, name);
        put(100, "0000644\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
