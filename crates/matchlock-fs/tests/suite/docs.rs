//! `docs/host-image.md` says what the tables say.

#[test]
fn the_document_is_the_rendering() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/host-image.md");
    let rendered = matchlock_fs::host_image::render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).expect("mkdir");
        std::fs::write(path, &rendered).expect("writes");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == rendered,
        "docs/host-image.md is out of date: its head says how to render it"
    );
}
