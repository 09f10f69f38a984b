//! The image of a made-up host: what is served, what is masked, and what is the same as there.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use matchlock_fs::{CachePolicy, HostImage, Limits, Opcode, Pool, Provider, Tree};

use crate::client::{Client, EACCES, ENOENT};

/// Files that the guest may read.
const SERVED: &[&str] = &[
    "etc/passwd",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/ssh/sshd_config",
    "etc/ssl/certs/ca-certificates.crt",
    "etc/apt/sources.list",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/cracklib/cracklib.conf",
    "etc/pam.d/common-password",
    "usr/bin/tool",
    "usr/share/private/x.key",
    "usr/sbin/tool",
    "opt/vendor/tool",
    "nix/store/abc/bin/tool",
    "var/lib/dpkg/status",
    "var/cache/fontconfig/cache",
];

/// Files that must be absent, themselves or a directory above them.
const MASKED: &[&str] = &[
    "etc/shadow",
    "etc/shadow-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/security/opasswd",
    "etc/sudoers",
    "etc/sudoers.d/user",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssl/private/site.pem",
    "etc/pki/private/ca.pem",
    "etc/pki/tls/private/site.pem",
    "etc/letsencrypt/live/site/privkey.pem",
    "etc/letsencrypt/archive/site/privkey1.pem",
    "etc/nginx/site.key",
    "etc/nginx/deep/er/store.p12",
    "etc/krb5.keytab",
    "etc/ipsec.secrets",
    "etc/ppp/chap-secrets",
    "etc/wireguard/wg0.conf",
    "etc/openvpn/client.conf",
    "etc/NetworkManager/system-connections/home",
    "etc/docker/key.json",
    "etc/kubernetes/admin.conf",
    "etc/rancher/k3s/k3s.yaml",
    "etc/apt/auth.conf",
    "etc/apt/auth.conf.d/x.conf",
    "etc/pip.conf",
    "etc/npmrc",
    "etc/gitconfig",
    "etc/environment",
    "etc/fstab",
    "etc/crypttab",
    "etc/machine-id",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/cloud/cloud.cfg",
    "etc/cron.d/job",
    "etc/app/.env",
    "etc/app/prod.env",
    "etc/app/.env.local",
    "etc/skel/.netrc",
    "etc/skel/.ssh/id_ed25519",
    "etc/nginx/site.key.bak",
    "etc/nginx/site.key~",
    "etc/wpa_supplicant.conf",
    "etc/strongswan/ipsec.secrets",
    "etc/ipsec.secrets.d/a",
    "etc/samba/private/passdb.tdb",
    "etc/credstore/token",
    "etc/credstore.encrypted/token",
    "etc/libnss-ldap.secret",
    "etc/ldap.secret",
    "etc/pam_ldap.secret",
    "etc/davfs2/secrets",
    "etc/chrony/chrony.keys",
    "etc/ntp.keys",
    "etc/gitlab/gitlab-secrets.json",
    "etc/sssd/sssd.conf",
    "etc/nomad.d/nomad.hcl",
    "etc/letsencrypt/renewal/site.conf",
    "etc/resolv.conf.bak",
    "etc/hosts.bak",
    "etc/ppp/pap-secrets.bak",
    "etc/.git/objects/aa",
    "root/.ssh/id_ed25519",
    "home/user/.netrc",
    "run/secrets/token",
    "proc/1/environ",
    "sys/power/state",
    "dev/sda",
    "srv/data",
    "boot/vmlinuz",
    "mnt/disk/file",
    "tmp/x",
    "work/x",
    "var/log/auth.log",
    "var/mail/user",
    "var/lib/postgresql/data",
    "var/lib/docker/overlay2/x",
    "var/spool/cron/user",
    "var/tmp/x",
    "var/backups/shadow.bak",
    "var/cache/debconf/passwords.dat",
];

fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().expect("directory");
    for path in SERVED.iter().chain(MASKED) {
        let path = host.path().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, b"content").expect("write");
    }
    for link in ["bin", "lib64"] {
        symlink(format!("usr/{link}"), host.path().join(link)).expect("symlink");
    }
    std::fs::create_dir(host.path().join("sbin")).expect("mkdir");
    host
}

fn image(host: &Path) -> Client<Tree> {
    let pool = Pool::new(Limits { nodes: 10_000, handles: 100, cached_fds: 16 });
    Client::new(Arc::new(HostImage::open(host, &pool, CachePolicy::SYSTEM).expect("image")))
}

#[test]
fn what_is_served_can_be_read() {
    let host = host();
    let client = image(host.path());
    for path in SERVED {
        let found = client.walk(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(client.cat(found.node), Ok(b"content".to_vec()), "{path}");
    }
    let bin = client.walk("bin").expect("found");
    assert_eq!(client.readlink(bin.node).as_deref(), Ok("usr/bin"), "the host's link");
    assert_eq!(client.walk("sbin").expect("found").mode >> 12, 4, "the host's directory");
    assert_eq!(client.walk("lib32"), Err(ENOENT), "the host has none");
    assert_eq!(client.readlink(client.walk("var/run").expect("link").node).as_deref(), Ok("/run"));
}

#[test]
fn what_is_masked_is_neither_found_nor_listed() {
    let host = host();
    let client = image(host.path());
    for path in MASKED {
        assert_eq!(client.walk(path), Err(ENOENT), "{path}");
        let mut at = String::new();
        // Some directory on the way has no name for it.
        let hidden = path.split('/').any(|name| {
            let node = client.walk(&at).map(|found| found.node);
            let listed = node.is_ok_and(|node| {
                let plain = client.names(node).expect("lists").contains(&name.to_owned());
                let plus = client.list(node, 4096, true).expect("lists");
                assert_eq!(plain, plus.iter().any(|listed| listed.name == name), "{path}");
                plain
            });
            at = format!("{at}/{name}");
            !listed
        });
        assert!(hidden, "{path}");
    }
}

#[test]
fn the_skeleton_is_as_a_system_expects() {
    let host = host();
    let client = image(host.path());
    for (path, mode) in [
        ("", 0o40755),
        ("tmp", 0o41777),
        ("var/tmp", 0o41777),
        ("root", 0o40700),
        ("home", 0o40755),
        ("proc", 0o40555),
        ("var/lib", 0o40755),
    ] {
        let node = client.walk(path).expect("found").node;
        assert_eq!(client.getattr(node).expect("attributes").mode, mode, "{path}");
    }
    for path in ["proc", "sys", "dev", "run", "tmp", "root", "home", "mnt", "srv", "var/log"] {
        assert_eq!(client.names(client.walk(path).expect("found").node), Ok(Vec::new()), "{path}");
    }
    let names = client.names(1).expect("lists");
    assert!(!names.contains(&"work".to_owned()), "{names:?}");
    assert_eq!(
        client.names(client.walk("var/lib").expect("found").node),
        Ok(vec!["dpkg".to_owned()])
    );
}

#[test]
fn private_keys_are_known_by_content_below_etc() {
    let host = host();
    let key = b"cert\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n";
    for path in ["etc/haproxy.pem", "etc/stunnel.conf", "usr/share/example.pem"] {
        std::fs::write(host.path().join(path), key).expect("write");
    }
    let client = image(host.path());
    for (path, expected) in [
        ("etc/haproxy.pem", Err(EACCES)),
        ("etc/stunnel.conf", Err(EACCES)),
        ("usr/share/example.pem", Ok(key.to_vec())),
    ] {
        let node = client.walk(path).expect("names are seen").node;
        assert_eq!(client.cat(node), expected, "{path}");
        assert_eq!(client.read(node, 0, 0, 1 << 20), expected, "{path} without OPEN");
    }
}

#[test]
fn only_what_everyone_may_read_is_read() {
    let host = host();
    let restrict = |path: &str, mode: u32| {
        let permissions = Permissions::from_mode(mode);
        std::fs::set_permissions(host.path().join(path), permissions).expect("chmod");
    };
    restrict("etc/passwd", 0o640);
    restrict("opt/vendor", 0o750);
    restrict("usr/bin/tool", 0o4711);
    let client = image(host.path());
    assert_eq!(client.cat(client.walk("etc/passwd").expect("seen").node), Err(EACCES));
    assert_eq!(client.walk("opt/vendor/tool"), Err(EACCES));
    let tool = client.walk("usr/bin/tool").expect("seen");
    assert_eq!(tool.mode, 0o104_711, "set-user-id bits are the host's");
    assert_eq!(client.cat(tool.node), Err(EACCES));
}

#[test]
fn special_files_are_absent() {
    let host = host();
    let socket = host.path().join("etc/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    let client = image(host.path());
    assert_eq!(client.walk("etc/socket"), Err(ENOENT));
    let etc = client.walk("etc").expect("found").node;
    assert!(!client.names(etc).expect("lists").contains(&"socket".to_owned()));
}

#[test]
fn inode_numbers_are_the_hosts_and_no_two_files_share_one() {
    let host = host();
    let linked = host.path().join("opt/vendor/linked");
    std::fs::hard_link(host.path().join("usr/bin/tool"), linked).expect("link");
    let client = image(host.path());
    let tool = client.walk("usr/bin/tool").expect("found");
    assert_eq!(client.walk("opt/vendor/linked").expect("found").ino, tool.ino, "hard links");
    let on_host = std::fs::metadata(host.path().join("usr/bin/tool")).expect("metadata").ino();
    assert_eq!(tool.ino, on_host, "one file system keeps its numbers");
    let mut inodes = std::collections::HashSet::new();
    for path in ["", "tmp", "var", "var/lib", "var/run", "etc", "usr", "etc/passwd", "usr/bin/tool"]
    {
        let node = client.walk(path).expect("found").node;
        let ino = client.getattr(node).expect("attributes").ino;
        assert!(ino > 1 && inodes.insert(ino), "{path}");
    }
}

#[test]
fn the_image_is_read_without_opens_and_stays_as_it_is() {
    let host = host();
    let pool = Pool::new(Limits::for_this_process());
    let tree = HostImage::open(host.path(), &pool, CachePolicy::SYSTEM).expect("image");
    assert!(tree.features().stateless);
    let client = Client::new(Arc::new(tree));
    for path in ["", "etc", "var/lib"] {
        let node = client.walk(path).expect("found").node;
        let made = client.ask(Opcode::MkDir, node, b"\0\0\0\0\0\0\0\0new\0");
        assert_eq!(made, Err(30), "EROFS in {path}");
    }
}

#[test]
fn a_host_with_nothing_has_an_image() {
    let host = tempfile::tempdir().expect("directory");
    let client = image(host.path());
    assert_eq!(client.walk("usr"), Err(ENOENT));
    assert!(client.walk("tmp").is_ok());
    let missing = HostImage::open(
        &host.path().join("missing"),
        &Pool::new(Limits::for_this_process()),
        CachePolicy::SYSTEM,
    );
    let error = missing.expect_err("no root");
    assert!(error.to_string().starts_with("cannot open the root directory "), "{error}");
}
