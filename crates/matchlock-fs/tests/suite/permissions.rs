//! What the invoking user cannot read stays unreadable, and with the rule of the host image what not
//! everyone can read does too, even for root.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use matchlock_fs::{CachePolicy, Filter, HostDir, HostDirOptions, IdSpace, Limits, Pool};

use crate::client::{Client, EACCES};

const NOBODY: u32 = 65534;
const DIRECTORY: &str = "MATCHLOCK_TEST_DIRECTORY";

fn client(path: &Path, world_readable_only: bool) -> Client<HostDir> {
    let options = HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter: Filter { world_readable_only, ..Filter::default() },
        cross_mounts: false,
        stateless: false,
    };
    let pool = Pool::new(Limits { nodes: 100, handles: 100, cached_fds: 10 });
    Client::new(Arc::new(HostDir::open(path, IdSpace::ROOT, &pool, options).expect("opens")))
}

/// Files and directories with the permissions that they are named after.
fn sample(root: &Path) {
    std::fs::set_permissions(root, Permissions::from_mode(0o755)).expect("chmod");
    for mode in [0o600, 0o640, 0o644, 0o604, 0o711] {
        let path = root.join(format!("f{mode:o}"));
        std::fs::write(&path, b"content").expect("write");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    }
    for mode in [0o700, 0o711, 0o744, 0o755] {
        let path = root.join(format!("d{mode:o}"));
        std::fs::create_dir(&path).expect("mkdir");
        std::fs::write(path.join("f"), b"content").expect("write");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    }
}

/// The same for root under the rule, and for another user without it.
fn expect_only_what_everyone_may_read(client: &Client<HostDir>) {
    for (name, readable) in
        [("f600", false), ("f640", false), ("f644", true), ("f604", true), ("f711", false)]
    {
        let found = client.lookup(1, name).expect("names are seen");
        let content = client.cat(found.node);
        assert_eq!(content, if readable { Ok(b"content".to_vec()) } else { Err(EACCES) }, "{name}");
    }
    for (name, listed, entered) in
        [("d700", false, false), ("d711", false, true), ("d744", true, false), ("d755", true, true)]
    {
        let node = client.lookup(1, name).expect("names are seen").node;
        let names = client.names(node);
        assert_eq!(names, if listed { Ok(vec!["f".to_owned()]) } else { Err(EACCES) }, "{name}");
        let found = client.lookup(node, "f");
        assert_eq!(found.err(), (!entered).then_some(EACCES), "{name}");
        if listed {
            let with_nodes = client.list(node, 4096, true).expect("lists");
            assert!(with_nodes.iter().all(|listed| entered || listed.node == 0), "{name}");
        }
    }
}

#[test]
fn root_sees_what_everyone_sees() {
    let directory = tempfile::tempdir().expect("directory");
    sample(directory.path());
    expect_only_what_everyone_may_read(&client(directory.path(), true));
    let own = client(directory.path(), false);
    let private = own.lookup(1, "f600").expect("found").node;
    assert_eq!(own.cat(private), Ok(b"content".to_vec()), "without the rule the owner reads it");
}

#[test]
fn another_user_sees_what_everyone_sees() {
    if !rustix::process::geteuid().is_root() {
        return matchlock_testkit::skip("only root can become another user");
    }
    let directory = tempfile::tempdir().expect("directory");
    sample(directory.path());
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "permissions::half_of_another_user"])
        .env(DIRECTORY, directory.path())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The half that runs as the other user; it does nothing when it is not asked to.
#[test]
fn half_of_another_user() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    assert_eq!(rustix::process::geteuid().as_raw(), NOBODY);
    expect_only_what_everyone_may_read(&client(&directory, false));
}
