use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn volumes() -> (TempDir, Volumes) {
    let cache = tempfile::tempdir().expect("a directory");
    let volumes = Volumes::in_cache(cache.path());
    (cache, volumes)
}

fn name(text: &str) -> VolumeName {
    text.parse().expect("a name")
}

fn size() -> DiskSize {
    DiskSize::new(64).expect("a size")
}

/// One piece: 4 bytes at 4096.
fn template() -> DiskTemplate {
    let mut pieces = 4096u64.to_le_bytes().to_vec();
    pieces.extend(4u32.to_le_bytes());
    pieces.extend(b"ext4");
    let image = zstd::encode_all(pieces.as_slice(), 1).expect("encode").leak();
    DiskTemplate { size: 64 << 20, image }
}

fn create(volumes: &Volumes, text: &str) -> Volume {
    volumes.create(&name(text), size(), &template()).expect("created")
}

#[test]
fn a_volume_is_sparse_and_private_and_there_only_once() {
    let (_cache, volumes) = volumes();
    assert_eq!(volumes.list().expect("listed"), []);
    let volume = create(&volumes, "data");
    let metadata = fs::metadata(&volume.path).expect("there");
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (64 << 20, 0o600));
    assert!(metadata.blocks() < 64, "{} blocks", metadata.blocks());
    let again = volumes.create(&name("data"), size(), &template()).expect_err("exists");
    assert_eq!(again.to_string(), "named volume already exists: data");
    assert_eq!(volumes.list().expect("listed"), [volume]);
}

#[test]
fn listed_by_name_and_only_volumes() {
    let (_cache, volumes) = volumes();
    for text in ["b", "a", "c.d"] {
        create(&volumes, text);
    }
    fs::write(volumes.directory.join(".hidden.ext4"), "").expect("written");
    fs::write(volumes.directory.join("notes.txt"), "").expect("written");
    fs::create_dir(volumes.directory.join("directory.ext4")).expect("made");
    let found = volumes.list().expect("listed");
    let names: Vec<_> = found.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c.d"]);
}

#[test]
fn one_writer_or_many_readers() {
    let _unlocking = crate::testing::unlocking();
    let (_cache, volumes) = volumes();
    let path = create(&volumes, "data").path;
    let name = name("data");
    let busy = |result: Result<(), VolumeError>| {
        assert_eq!(
            result.expect_err("in use").to_string(),
            "volume data is in use by another sandbox"
        );
    };
    let writer = volumes.attach(&name, Access::ReadWrite).expect("free");
    busy(volumes.attach(&name, Access::ReadWrite).map(drop));
    busy(volumes.attach(&name, Access::ReadOnly).map(drop));
    busy(volumes.remove(&name));
    busy(volumes.copy(&name, &"copy".parse().expect("a name")).map(drop));
    assert!(matches!(attach_file(&path, Access::ReadOnly), Err(VolumeError::InUse(_))));
    drop(writer);
    let readers = [(); 2].map(|()| volumes.attach(&name, Access::ReadOnly).expect("free"));
    busy(volumes.attach(&name, Access::ReadWrite).map(drop));
    busy(volumes.remove(&name));
    volumes.copy(&name, &"copy".parse().expect("a name")).expect("nobody writes");
    assert!(readers[0].file.try_clone().expect("a file").write_all(b"x").is_err(), "read-only");
    drop(readers);
    volumes.remove(&name).expect("free");
}

#[test]
fn what_is_not_there_is_said() {
    let (_cache, volumes) = volumes();
    let missing = name("missing");
    for error in [
        volumes.attach(&missing, Access::ReadOnly).map(drop),
        volumes.remove(&missing),
        volumes.copy(&missing, &name("copy")).map(drop),
    ] {
        assert_eq!(error.expect_err("missing").to_string(), "named volume not found: missing");
    }
    assert_eq!(volumes.list().expect("listed"), [], "not even a copy");
}

#[test]
fn a_copy_is_the_same_in_everything_and_as_sparse() {
    let (_cache, volumes) = volumes();
    let volume = create(&volumes, "data");
    let file = OpenOptions::new().write(true).open(&volume.path).expect("opened");
    file.write_all_at(b"behind a hole", 40 << 20).expect("written");
    let past = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    file.set_modified(past).expect("set");
    fs::set_permissions(&volume.path, fs::Permissions::from_mode(0o640)).expect("set");
    let copy = volumes.copy(&volume.name, &name("copy")).expect("copied");
    let (old, new) = (fs::metadata(&volume.path), fs::metadata(&copy.path));
    let (old, new) = (old.expect("there"), new.expect("there"));
    assert_eq!(fs::read(&copy.path).expect("read"), fs::read(&volume.path).expect("read"));
    assert_eq!(
        (new.len(), new.mode(), new.uid(), new.gid()),
        (old.len(), old.mode(), old.uid(), old.gid())
    );
    assert_eq!(new.modified().expect("a time"), past);
    assert!(new.blocks() < 512, "{} blocks", new.blocks());
    assert_eq!(copy.bytes, volume.bytes);
    let again = volumes.copy(&volume.name, &name("copy")).expect_err("exists");
    assert_eq!(again.to_string(), "named volume already exists: copy");
}

#[test]
fn a_path_of_the_host_must_be_a_file_that_can_be_a_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let error = |path: &Path| attach_file(path, Access::ReadOnly).expect_err("no disk").to_string();
    assert!(error(&at("missing")).starts_with("disk image not found: "));
    assert!(error(directory.path()).contains("not a regular file"));
    assert!(error(Path::new("/dev/null")).contains("not a regular file"));
    fs::write(at("odd"), [0; 513]).expect("written");
    assert!(error(&at("odd")).contains("multiple of 512"));
    fs::write(at("even"), [0; 1024]).expect("written");
    symlink(at("even"), at("link")).expect("linked");
    let _attached = attach_file(&at("link"), Access::ReadWrite).expect("a disk");
    assert!(error(&at("even")).ends_with("is in use by another sandbox"));
}

proptest! {
    #[test]
    fn no_name_leads_out_of_the_directory(text in "\\PC{0,30}") {
        if let Ok(name) = text.parse::<VolumeName>() {
            let path = Path::new("/volumes").join(format!("{name}{SUFFIX}"));
            prop_assert_eq!(path.parent(), Some(Path::new("/volumes")));
            prop_assert!(!text.starts_with('.'));
        }
    }
}

#[test]
fn a_cache_is_made_once_grows_and_never_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("buildkit/cache.ext4");
    let attach = |mib| {
        let size = DiskSize::new(mib).expect("a size");
        let attached = attach_cache(&path, size, &template(), || panic!("nobody has it"));
        attached.expect("attached").into_file()
    };
    let first = attach(64);
    let metadata = first.metadata().expect("there");
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (64 << 20, 0o600));
    let mut text = [0; 4];
    first.read_exact_at(&mut text, 4096).expect("read");
    assert_eq!(&text, b"ext4");
    first.write_all_at(b"kept", 8192).expect("written");
    drop(first);
    for (mib, expected) in [(128, 128 << 20), (64, 128 << 20)] {
        let again = attach(mib);
        assert_eq!(again.metadata().expect("there").len(), expected);
        again.read_exact_at(&mut text, 8192).expect("read");
        assert_eq!(&text, b"kept");
    }
}

#[test]
fn the_second_user_of_a_cache_is_told_and_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache.ext4");
    let first = attach_cache(&path, size(), &template(), || ()).expect("attached");
    first.file.write_all_at(b"done", 8192).expect("written");
    let (told, telling) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            attach_cache(&path, size(), &template(), move || told.send(()).expect("heard"))
        });
        telling.recv().expect("it waits");
        // Whoever deletes the file meanwhile gets a new one made.
        fs::remove_file(&path).expect("removed");
        drop(first);
        let second = second.join().expect("no panic").expect("attached");
        assert_eq!(second.file.metadata().expect("there").nlink(), 1);
    });
}

#[test]
fn a_cache_is_a_regular_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache.ext4");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).expect("a pipe");
    let error = attach_cache(&path, size(), &template(), || ()).expect_err("refused");
    assert!(matches!(error, VolumeError::NotDisk { .. }), "{error:?}");
}
