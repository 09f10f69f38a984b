//! Images of file systems and what they are made from.

use matchlock_image::manifest::{
    ImageConfig, MAX_BYTES, MAX_LAYERS, Manifest, ManifestError, Platform,
};

/// The metadata of an EROFS image. It lies in the store, where another process may have damaged it.
pub fn erofs(input: &[u8]) {
    matchlock_image::erofs::fuzzing::check(input);
}

/// A manifest, an index or a configuration, after a line with the media type of the response.
pub fn manifest(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let announced = parts.next().and_then(|line| std::str::from_utf8(line).ok());
    let document = parts.next().unwrap_or_default();
    match Manifest::decode(document, announced) {
        Ok(Manifest::Image(image)) => {
            assert!(image.layers.len() <= MAX_LAYERS, "too many layers");
            assert!(image.config.size <= MAX_BYTES, "a large configuration");
        }
        Ok(Manifest::Index(index)) => match index.choose(&Platform::host()) {
            Ok(_) => assert!(index.images() > 0, "chosen out of nothing"),
            Err(error) => is_for_people(&error),
        },
        Err(error) => is_for_people(&error),
    }
    match ImageConfig::decode(document) {
        Ok(config) => is_for_processes(&config, document),
        Err(error) => is_for_people(&error),
    }
}

fn is_for_processes(config: &ImageConfig, document: &[u8]) {
    let runtime = &config.runtime;
    assert!(config.diff_ids.len() <= MAX_LAYERS, "too many layers");
    assert_eq!(runtime.raw.as_bytes(), document, "the document is kept");
    let names = runtime.env.iter().map(|(name, _)| name);
    assert!(names.clone().all(|name| !name.is_empty() && !name.contains('=')), "no name");
    let values = runtime.env.iter().map(|(_, value)| value);
    let words = runtime.entrypoint.iter().chain(&runtime.cmd).chain(names).chain(values);
    let mut words = words.chain(&runtime.user).chain(&runtime.working_dir);
    assert!(words.all(|word| !word.contains('\0')), "NUL");
    assert!(runtime.working_dir.iter().all(|dir| dir.starts_with('/')), "a relative directory");
}

/// Whoever made the document must not write to the terminal with it.
fn is_for_people(error: &ManifestError) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "control characters: {text:?}");
    assert!(text.len() < 16 * 1024, "{} bytes of message", text.len());
}

/// A layer, compressed or not, into a tree and a blob, and the blob back into the tree. Strangers
/// make layers.
pub fn layer(input: &[u8]) {
    matchlock_image::layer::fuzz::fuzz_layer(input);
}
