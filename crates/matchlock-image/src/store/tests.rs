#![expect(clippy::disallowed_methods, reason = "a test asks for its surroundings")]

use std::io;
use std::process::{Command, Stdio};

use matchlock_db::DbError;
use rusqlite::Connection;

use super::fault::ABORT_AT;
use super::*;
use crate::digest::Digest;
use crate::samples::{files, put, put_layers, store, tar};

fn archives() -> Vec<Vec<u8>> {
    vec![tar(&[("a", b"one"), ("b", b"two")]), tar(&[("a", b"three"), ("c", &[7; 5000])])]
}

fn counts(store: &Store) -> (usize, usize) {
    (store.list().expect("list").len(), files(store, "blobs").len())
}

#[test]
fn names_are_found_in_every_spelling_and_printed_as_typed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    put(&store, "alpine", &archives());
    for spelling in ["alpine", "alpine:latest", "docker.io/library/alpine:latest"] {
        let found = store.find_tag(spelling).expect("look").expect("found");
        assert_eq!((found.tag.as_str(), found.scope), ("alpine", Scope::Registry));
        assert_eq!(found.config.user.as_deref(), Some("1000:1000"));
        assert_eq!(found.config.working_dir.as_deref(), Some("/srv"));
        assert_eq!(found.config.env[1], ("EMPTY".to_owned(), String::new()));
        assert_eq!(found.layers.len(), 2);
    }
    assert!(store.find_tag("alpine:3").expect("look").is_none());
    assert_eq!(store.list().expect("list")[0].tag, "alpine");
}

#[test]
fn a_local_tag_comes_first_and_adds_no_blob() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let image = put(&store, "debian:12", &archives());
    put(&store, "mine", &[tar(&[("other", b"x")])]);
    let before = files(&store, "blobs");
    let name = ImageName::local("mine", Source::Tag).expect("a tag");
    let tagged = store.tag(&image, &name).expect("tag");
    assert_eq!((tagged.scope, tagged.source), (Scope::Local, Source::Tag));
    assert_eq!(files(&store, "blobs"), before);
    assert_eq!(store.find_tag("mine").expect("look").expect("found").digest, image.digest);
    let listed: Vec<_> =
        store.list().expect("list").into_iter().map(|i| (i.scope, i.tag)).collect();
    let (local, remote) = (Scope::Local, Scope::Registry);
    let names = [(local, "mine"), (remote, "debian:12"), (remote, "mine")];
    assert_eq!(listed, names.map(|(scope, tag)| (scope, tag.to_owned())));
}

#[test]
fn the_query_of_the_contract_leads_to_the_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    put(&store, "Registry.example/team/app:v1", &archives());
    let database = Connection::open(dir.path().join("metadata.db")).expect("open");
    let query = "SELECT digest, fs_type, size FROM image_layers
                 WHERE scope='registry' AND tag=? ORDER BY ordinal";
    let mut query = database.prepare(query).expect("prepare");
    let rows = query.query_map(["Registry.example/team/app:v1"], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    });
    let rows: Vec<_> = rows.expect("query").map(|row| row.expect("a row")).collect();
    let diff_ids: Vec<_> = archives().iter().map(|bytes| Digest::of(bytes).to_string()).collect();
    assert_eq!(rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>(), diff_ids);
    for (digest, fs_type, size) in rows {
        let name = format!("{}.{fs_type}", digest.replace(':', "_"));
        let file = std::fs::metadata(dir.path().join("blobs").join(name)).expect("the blob");
        assert_eq!((fs_type.as_str(), u64::try_from(size)), ("erofs", Ok(file.len())));
    }
}

#[test]
fn the_other_tables_of_the_contract_are_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    put(&store, "alpine", &archives());
    put(&store, "alpine:3", &archives()[..1]);
    let database = Connection::open(dir.path().join("metadata.db")).expect("open");
    let one = |query: &str| database.query_row(query, [], |row| row.get::<_, i64>(0)).expect(query);
    assert_eq!(one("SELECT count(*) FROM images WHERE scope='registry' AND source='registry'"), 2);
    assert_eq!(one("SELECT count(*) FROM schema_migrations WHERE version=1"), 1);
    let first = Digest::of(&archives()[0]);
    assert_eq!(one(&format!("SELECT ref_count FROM layer_refs WHERE digest='{first}'")), 2);
    let path: String = database
        .query_row("SELECT rootfs_path FROM images WHERE tag='alpine'", [], |row| row.get(0))
        .expect("a path");
    assert!(dir.path().join(path).is_file());
}

#[test]
fn an_opened_image_is_its_index_and_its_layers_whatever_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let image = put(&store, "alpine", &archives());
    let root = store.open_image(&image).expect("open");
    store.remove("docker.io/library/alpine").expect("remove");
    assert_eq!(counts(&store), (0, 0));
    let lengths: Vec<_> = root.files.iter().map(|(_, len)| *len).collect();
    assert!(lengths.iter().all(|len| len % 512 == 0), "{lengths:?}");
    let tree = crate::erofs::read_index(&root.files[0].0, &lengths[1..]).expect("an index");
    let name = |text: &str| crate::tree::Name::new(text.as_bytes()).expect("a name");
    let a = tree.lookup(crate::tree::Tree::ROOT, &name("a")).expect("a");
    let crate::tree::Content::File(data) = tree.inode(a).content else { panic!("no file") };
    let mut content = [0; 5];
    let layer = &root.files[usize::from(data.layer) + 1].0;
    std::os::unix::fs::FileExt::read_exact_at(layer, &mut content, data.start).expect("read");
    assert_eq!((&content, data.layer), (b"three", 1));
    assert!(tree.lookup(crate::tree::Tree::ROOT, &name("b")).is_some());
    assert_eq!(
        (root.reference.as_str(), root.config.cmd.as_slice()),
        ("alpine", &["sh".into()][..])
    );
}

#[test]
fn layers_are_shared_and_go_with_their_last_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    put(&store, "one", &archives()[..1]);
    assert_eq!(counts(&store), (1, 2));
    put(&store, "two", &archives());
    // A layer and an index more.
    assert_eq!(counts(&store), (2, 4));
    store.remove("two").expect("remove");
    assert_eq!(counts(&store), (1, 2));
    store.remove("one:latest").expect("remove");
    assert_eq!(counts(&store), (0, 0));
    let missing = store.remove("one").expect_err("gone");
    assert_eq!(missing.to_string(), "image not found: \"one\"");
}

#[test]
fn all_spellings_of_a_reference_follow_a_new_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    put(&store, "alpine", &archives());
    let new = put(&store, "alpine:latest", &archives()[1..]);
    assert_eq!(counts(&store), (2, 2));
    for spelling in ["alpine", "alpine:latest"] {
        let found = store.find_tag(spelling).expect("look").expect("found");
        assert_eq!(found.digest, new.digest);
    }
    assert!(store.list().expect("list").iter().all(|image| image.digest == new.digest));
    store.remove("alpine").expect("remove");
    assert_eq!(counts(&store), (0, 0));
}

#[test]
fn an_image_stays_for_a_kept_sandbox_whatever_becomes_of_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let image = put(&store, "alpine", &archives());
    let root = store.open_image(&image).expect("open");
    let sandbox = dir.path().join("sandbox");
    std::fs::create_dir(&sandbox).expect("made");
    let path = sandbox.join("image.json");
    store.keep_image(&root, "vm-1", &path).expect("keep");
    store.keep_image(&root, "vm-1", &path).expect("again");
    let blobs = files(&store, "blobs");
    put(&store, "alpine", &[tar(&[("other", b"x")])]);
    store.remove("alpine").expect("remove");
    store.gc().expect("gc");
    assert_eq!(files(&store, "blobs"), blobs);
    let again = store.open_kept(&path).expect("open");
    assert_eq!((again.digest, &*again.reference), (root.digest, &*root.reference));
    assert_eq!(again.config, root.config);
    let lengths = |image: &RootImage| image.files.iter().map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!(lengths(&again), lengths(&root));
    // It is too late for an image that is gone.
    std::fs::remove_dir_all(&sandbox).expect("remove");
    assert_eq!(store.gc().expect("gc").blobs, blobs.len());
    assert_eq!((files(&store, "leases"), files(&store, "blobs")), (vec![], vec![]));
    std::fs::create_dir(&sandbox).expect("made");
    let late = store.keep_image(&root, "vm-1", &path);
    assert!(matches!(late, Err(StoreError::Damaged(_))), "{late:?}");
    assert!(matches!(store.open_kept(&path), Err(StoreError::Damaged(_))));
}

#[test]
fn gc_deletes_what_nothing_needs_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    put(&store, "kept", &archives()[..1]);
    let kept = files(&store, "blobs");
    let (config, lease) = put_layers(&store, &archives());
    std::fs::write(store.dir().join("blobs/leftover"), b"x").expect("write");
    let part = store.part(&Digest::of(b"on its way")).expect("a part").expect("ours");
    let mut abandoned = store.part(&Digest::of(b"abandoned")).expect("a part").expect("ours");
    abandoned.append(b"some").expect("write");
    drop(abandoned);
    let report = store.gc().expect("gc");
    assert_eq!((report.blobs, report.parts), (1, 1), "the lease keeps the second layer");
    assert_eq!(files(&store, "ingest").len(), 1);
    assert!(store.has_blob(&config.diff_ids[1]).expect("look"));
    drop((lease, part));
    let report = store.gc().expect("gc");
    assert_eq!((report.blobs, report.parts), (1, 1));
    assert!(report.bytes > 0);
    assert_eq!(files(&store, "blobs"), kept);
    assert_eq!(files(&store, "leases"), []);
    assert_eq!(store.gc().expect("gc"), GcReport::default());
}

#[test]
fn a_part_has_one_owner_and_survives_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, other) = (store(dir.path()), store(dir.path()));
    let digest = Digest::of(b"layer");
    let mut part = store.part(&digest).expect("a part").expect("ours");
    part.append(b"half").expect("write");
    assert!(other.part(&digest).expect("look").is_none());
    drop(part);
    let part = other.part(&digest).expect("a part").expect("ours");
    assert_eq!(part.len(), 4);
    part.remove().expect("remove");
    assert_eq!(store.part(&digest).expect("a part").expect("ours").len(), 0);
}

#[test]
fn a_layer_is_stored_once_by_many_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let archives = archives();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (archives, path) = (&archives, dir.path());
            scope.spawn(move || {
                let store = store(path);
                put(&store, &format!("image-{number}"), archives);
                store.gc().expect("gc");
            });
        }
    });
    let store = store(dir.path());
    assert_eq!(counts(&store), (8, 3));
    for image in store.list().expect("list") {
        let image = store.find_tag(&image.tag).expect("look").expect("found");
        store.open_image(&image).expect("whole");
    }
}

#[test]
fn names_come_and_go_under_others_without_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let archives = archives();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (archives, path) = (&archives, dir.path());
            scope.spawn(move || {
                let (store, name) = (store(path), format!("image-{number}"));
                for _ in 0..5 {
                    let image = put(&store, &name, archives);
                    store.open_image(&image).expect("whole while it has a name");
                    store.remove(&name).expect("remove");
                }
            });
        }
    });
    assert_eq!(counts(&store(dir.path())), (0, 0));
}

#[test]
fn a_damaged_blob_is_not_taken_for_one_and_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let image = put(&store, "alpine", &archives());
    let layer = image.layers[1].diff_id;
    std::fs::write(store.blob_path(&layer), b"short").expect("write");
    assert!(!store.is_whole(&image).expect("look"));
    assert!(
        matches!(store.open_image(&image), Err(StoreError::Damaged(digest)) if digest == layer)
    );
    let again = put(&store, "alpine", &archives());
    assert!(store.is_whole(&again).expect("look"));
    store.open_image(&again).expect("whole again");
}

#[test]
fn a_missing_index_is_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let image = put(&store, "alpine", &archives());
    let layers: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
    let index = store.blob_path(&blobs::index_digest(&layers));
    let before = std::fs::read(&index).expect("the index");
    std::fs::remove_file(&index).expect("remove");
    store.open_image(&image).expect("open");
    assert_eq!(std::fs::read(&index).expect("the index"), before);
    assert_eq!(store.gc().expect("gc"), GcReport::default());
}

#[test]
fn an_error_on_the_way_changes_no_name() {
    let kind = io::ErrorKind::StorageFull;
    for point in ["before-link", "after-link", "before-register"] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(dir.path());
        let old = put(&store, "alpine", &archives()[..1]);
        let before = files(&store, "blobs");
        let (config, lease) = put_layers(&store, &archives());
        let name = ImageName::registry(&"alpine".parse().expect("a reference"));
        let new = NewImage { names: &[name], digest: Digest::of(b"new"), config: &config };
        store.set_fault(point, kind);
        let error = store.commit_image(&lease, &new).expect_err(point);
        assert!(matches!(error, StoreError::NoSpace(_)), "{point}: {error:?}");
        store.clear_fault();
        let found = store.find_tag("alpine").expect("look").expect("found");
        assert_eq!(found.digest, old.digest);
        store.open_image(&found).expect("whole");
        drop(lease);
        store.gc().expect("gc");
        assert_eq!(files(&store, "blobs"), before, "{point}");
    }
}

/// What the child processes of the next test do until they abort.
#[test]
#[ignore = "run by a_process_that_dies_leaves_nothing_registered"]
fn child_that_stores_an_image() {
    let dir = std::env::var_os("MATCHLOCK_TEST_STORE").expect("a store");
    put(&store(dir.as_ref()), "new", &archives());
}

#[test]
fn a_process_that_dies_leaves_nothing_registered() {
    let points =
        ["before-link", "after-link", "before-register", "after-register", "before-unlink"];
    for point in points {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(dir.path());
        let old = put(&store, "old", &archives()[..1]);
        let before = files(&store, "blobs");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "store::tests::child_that_stores_an_image", "--ignored"])
            .env("MATCHLOCK_TEST_STORE", dir.path())
            .env(ABORT_AT, point)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("run");
        assert!(!child.success(), "{point} is not reached");
        store.open_image(&old).expect("whole");
        let new = store.find_tag("new").expect("look");
        assert_eq!(new.is_some(), point == "after-register" || point == "before-unlink");
        store.gc().expect("gc");
        assert_eq!(files(&store, "leases"), []);
        match new {
            Some(new) => drop(store.open_image(&new).expect("whole")),
            None => assert_eq!(files(&store, "blobs"), before, "{point}"),
        }
        put(&store, "new", &archives());
        assert_eq!(counts(&store), (2, 4), "{point}");
    }
}

#[test]
fn a_database_of_another_program_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metadata.db");
    let other = Connection::open(&path).expect("open");
    other.execute_batch("CREATE TABLE images (scope TEXT, tag TEXT);").expect("create");
    drop(other);
    let store = store(dir.path());
    assert_eq!(counts(&store), (0, 0));
    assert!(dir.path().join("metadata.db.old").is_file());
}

#[test]
fn a_database_of_a_newer_version_is_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(store(dir.path()));
    let database = Connection::open(dir.path().join("metadata.db")).expect("open");
    let insert = "INSERT INTO schema_migrations VALUES ('matchlock-image', 99, 'later', '')";
    database.execute(insert, []).expect("insert");
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Schema(DbError::Newer { found: 99, .. }))
    ));
}

#[test]
fn tags_are_visible_text() {
    for bad in ["", "a b", "a\nb", &"x".repeat(256)] {
        assert!(ImageName::local(bad, Source::Import).is_err(), "{bad:?}");
    }
    assert_eq!(ImageName::local("My_Tag", Source::Import).expect("valid").as_typed(), "My_Tag");
}

#[test]
fn an_image_without_layers_is_an_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let image = put(&store, "empty", &[]);
    assert_eq!(store.open_image(&image).expect("open").files.len(), 1);
}
