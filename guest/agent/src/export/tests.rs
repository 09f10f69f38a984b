use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Layer;
use crate::authority::Authority;

/// Path, type, link and content of each entry, in order.
type Listing = Vec<(String, char, String, Vec<u8>)>;

fn listing(archive: &[u8]) -> Listing {
    let mut archive = ::tar::Archive::new(archive);
    let mut found = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        let text = |bytes: Vec<u8>| OsString::from_vec(bytes).into_string().expect("UTF-8");
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let kind = char::from(entry.header().entry_type().as_byte());
        let path = text(entry.path_bytes().into_owned());
        found.push((path, kind, link.map(text).unwrap_or_default(), content));
    }
    found
}

fn layer(upper: &Path, authority: Option<&str>) -> Layer {
    let upper = File::open(upper).expect("a directory");
    let authority = authority.map(|pem| Authority::new(pem.to_owned()).expect("PEM"));
    Layer::new(upper.into(), authority).expect("readable")
}

fn exported(layer: &Layer) -> Vec<u8> {
    let mut archive = Vec::new();
    layer.write(layer.directory().expect("open"), &mut archive).expect("written");
    archive
}

fn paths(archive: &[u8]) -> Vec<String> {
    listing(archive).into_iter().map(|(path, ..)| path).collect()
}

#[test]
fn only_what_came_after_the_start_is_exported() {
    let upper = tempfile::tempdir().expect("a directory");
    let at = |path: &str| upper.path().join(path);
    for directory in ["proc", "etc/ssl/certs", "kept"] {
        fs::create_dir_all(at(directory)).expect("made");
    }
    for file in ["etc/hosts", "etc/ssl/certs/bundle", "kept/file"] {
        fs::write(at(file), "agent").expect("written");
    }
    let layer = layer(upper.path(), None);
    assert!(paths(&exported(&layer)).is_empty(), "nothing has happened");

    fs::write(at("etc/ssl/new"), "program").expect("written");
    fs::write(at("kept/file"), "program").expect("written");
    fs::write(at("etc/hosts"), "program").expect("written");
    let found = listing(&exported(&layer));
    let of = |path: &str, kind, content: &str| {
        (path.to_owned(), kind, String::new(), content.as_bytes().to_vec())
    };
    let expected = [
        of("etc/", '5', ""),
        of("etc/ssl/", '5', ""),
        of("etc/ssl/new", '0', "program"),
        of("kept/", '5', ""),
        of("kept/file", '0', "program"),
    ];
    // Whether a directory that has no new entry is there is the clock's choice of a change time.
    assert_eq!(found, expected);
}

#[test]
fn the_root_is_an_entry_only_when_its_owner_or_mode_has_changed() {
    let upper = tempfile::tempdir().expect("a directory");
    let layer = layer(upper.path(), None);
    fs::set_permissions(upper.path(), fs::Permissions::from_mode(0o711)).expect("set");
    let archive = exported(&layer);
    let mut entries = ::tar::Archive::new(archive.as_slice());
    let entry = entries.entries().expect("an archive").next().expect("one").expect("whole");
    assert_eq!(entry.path_bytes().as_ref(), b"./");
    assert_eq!(entry.header().mode().expect("a mode"), 0o711);
}

#[test]
fn links_times_and_long_names_survive() {
    let upper = tempfile::tempdir().expect("a directory");
    let layer = layer(upper.path(), None);
    let at = |path: &str| upper.path().join(path);
    let (name, target) = ("n".repeat(255), "t".repeat(300));
    let long = format!("{}/{name}", "d".repeat(200));
    fs::create_dir(at(&"d".repeat(200))).expect("made");
    fs::write(at(&long), "long").expect("written");
    let past = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::open(at(&long)).and_then(|file| file.set_modified(past)).expect("set");
    symlink(&target, at("link")).expect("linked");
    fs::hard_link(at(&long), at("zz")).expect("linked");
    let archive = exported(&layer);
    let found = listing(&archive);
    let entry = |path: &str| found.iter().find(|(found, ..)| found == path).expect(path).clone();
    assert_eq!(entry(&long).3, b"long");
    assert_eq!(entry("link").2, target);
    let (_, kind, link, content) = entry("zz");
    assert_eq!((kind, link, content.len()), ('1', long.clone(), 0));
    let mut entries = ::tar::Archive::new(archive.as_slice());
    let mtime =
        entries.entries().expect("an archive").map(|entry| entry.expect("an entry")).find_map(
            |mut entry| {
                let wanted = entry.path_bytes().as_ref() == long.as_bytes();
                let records = entry.pax_extensions().expect("records")?;
                let mut records = records.map(|record| record.expect("a record"));
                let found = records.find(|record| record.key_bytes() == b"mtime")?;
                wanted.then(|| found.value().expect("UTF-8").to_owned())
            },
        );
    assert_eq!(mtime.as_deref(), Some("1700000000.123456789"));
}

#[test]
fn the_authority_leaves_with_nothing() {
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let upper = tempfile::tempdir().expect("a directory");
    let layer = layer(upper.path(), Some(PEM));
    let certs = upper.path().join("etc/ssl/certs");
    fs::create_dir_all(&certs).expect("made");
    fs::write(certs.join("ca-certificates.crt"), format!("A\n{PEM}B\n{PEM}")).expect("written");
    fs::write(certs.join("matchlock-ca.crt"), PEM).expect("written");
    symlink("matchlock-ca.crt", certs.join("c185044c.0")).expect("linked");
    let found = listing(&exported(&layer));
    let files: Vec<_> = found.iter().filter(|(_, kind, ..)| *kind != '5').collect();
    let bundle = "etc/ssl/certs/ca-certificates.crt".to_owned();
    assert_eq!(files, [&(bundle, '0', String::new(), b"A\nB\n".to_vec())]);
}

#[test]
fn a_file_of_another_kind_than_archives_have_is_left_out() {
    let upper = tempfile::tempdir().expect("a directory");
    let layer = layer(upper.path(), None);
    let _socket =
        std::os::unix::net::UnixListener::bind(upper.path().join("socket")).expect("bound");
    fs::write(upper.path().join("file"), "").expect("written");
    assert_eq!(paths(&exported(&layer)), ["file"]);
}
