use std::io::Read as _;

use super::*;

fn image() -> ImageArchive {
    let long = "n".repeat(255);
    let lower = LayerTar::new().directory("d").file(&format!("d/{long}"), 0o600, b"long").add(
        "d/link",
        Attributes::of_root(0o600),
        Content::HardLink(&format!("d/{long}")),
    );
    let upper = LayerTar::new().whiteout("d/link").whiteout("top").symlink("s", "d");
    ImageArchive::new(vec![lower.finish(), upper.finish()]).config(json!({ "Cmd": ["sh"] }))
}

fn files(format: Format, packing: Packing) -> BTreeMap<String, Vec<u8>> {
    let mut bytes = Vec::new();
    image().write(&mut bytes, format, packing, "test:1").expect("memory");
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("a tar archive") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        assert!(files.insert(path, content).is_none(), "an entry twice");
    }
    files
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn an_image_layout_leads_to_every_blob() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let files = files(Format::Oci, packing);
        let follow = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let name = digest.replace("sha256:", "blobs/sha256/");
            let blob = files.get(&name).expect("the blob is there");
            assert_eq!(descriptor["size"], blob.len());
            assert_eq!(digest, format!("sha256:{}", sha256(blob)));
            blob
        };
        let index = parse(&files["index.json"]);
        let manifest = parse(follow(&index["manifests"][0]));
        let config = parse(follow(&manifest["config"]));
        assert_eq!(config["config"]["Cmd"], json!(["sh"]));
        for (at, layer) in manifest["layers"].as_array().expect("layers").iter().enumerate() {
            let blob = follow(layer).as_slice();
            let tar = match packing {
                Packing::Plain => blob.to_vec(),
                Packing::Gzip => {
                    let mut tar = Vec::new();
                    let mut decoder = flate2::read::GzDecoder::new(blob);
                    decoder.read_to_end(&mut tar).expect("gzip");
                    tar
                }
                Packing::Zstd => zstd::decode_all(blob).expect("zstd"),
            };
            assert_eq!(config["rootfs"]["diff_ids"][at], format!("sha256:{}", sha256(&tar)));
        }
    }
}

#[test]
fn a_docker_archive_leads_to_every_file() {
    let files = files(Format::Docker, Packing::Plain);
    let manifest = parse(&files["manifest.json"]);
    assert_eq!(manifest[0]["RepoTags"], json!(["test:1"]));
    let config = parse(&files[manifest[0]["Config"].as_str().expect("a name")]);
    for (at, layer) in manifest[0]["Layers"].as_array().expect("layers").iter().enumerate() {
        let tar = &files[layer.as_str().expect("a name")];
        assert_eq!(config["rootfs"]["diff_ids"][at], format!("sha256:{}", sha256(tar)));
    }
}

#[test]
fn entries_are_as_they_were_added() {
    let image = image();
    let names = |layer: &[u8]| -> Vec<String> {
        let mut archive = tar::Archive::new(layer);
        let entries = archive.entries().expect("a tar archive");
        entries
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect()
    };
    let long = format!("d/{}", "n".repeat(255));
    assert_eq!(names(&image.layers[0]), ["d/", long.as_str(), "d/link"]);
    assert_eq!(names(&image.layers[1]), ["d/.wh.link", ".wh.top", "s"]);
}
