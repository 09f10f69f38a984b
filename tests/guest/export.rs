//! The writable layer on its way out.

use matchlock_core::image::erofs::BlobWriter;
use matchlock_core::image::layer::{Compression, Layer, Limits, unpack};
use matchlock_core::image::tree::{Content, FileData, Inode, Name, Tree};
use matchlock_core::{ExecError, ExecFailure, SandboxHandle, SandboxSpec};

use crate::lab::{Lab, spec};
use crate::run::{python, sh};

cases![
    a_sandbox_in_which_nothing_ran_exports_nothing,
    everything_that_programs_did_is_in_the_layer,
    a_sandbox_that_was_not_made_for_it_exports_nothing,
    trust_stores_that_are_made_anew_have_no_authority_of_the_sandbox,
];

/// What a program leaves of every kind. `/usr/share/doc` is the host's and stands for an image's.
const DEEDS: &str = r#"
import os, stat
os.makedirs('/deed/' + 'd' * 200 + '/' + 'e' * 200)
def write(path, text):
    with open(path, 'w') as file: file.write(text)
write('/deed/' + 'd' * 200 + '/' + 'e' * 200 + '/' + 'f' * 255, 'long')
write('/deed/file', 'content')
os.link('/deed/file', '/deed/hard')
os.chown('/deed/file', 70000, 3000000); os.chmod('/deed/file', 0o6750)
os.setxattr('/deed/file', 'user.note', b'a\nb\0c')
os.setxattr('/deed/file', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
os.utime('/deed/file', ns=(0, 1_000_000_000_123_456_789))
os.symlink('x' * 4000, '/deed/symlink')
os.mkfifo('/deed/fifo', 0o600)
os.mknod('/deed/null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
with open('/deed/sparse', 'wb') as file: file.truncate(50_000_000); file.seek(40_000_000); file.write(b'end')
write('/etc/added', 'x')
write('/etc/hosts', 'not exported')
os.remove('/etc/passwd')
import shutil
shutil.rmtree('/etc/skel'); os.mkdir('/etc/skel')
"#;

async fn exported(sandbox: &SandboxHandle) -> Layer {
    let archive = sandbox.export().await.expect("started").blocking();
    let unpacked = tokio::task::spawn_blocking(move || {
        let blob = BlobWriter::new(tempfile::tempfile().expect("a file")).expect("a blob");
        unpack(archive, Compression::None, None, blob, &Limits::default())
    });
    unpacked.await.expect("no panic").expect("a layer")
}

fn find<'a>(tree: &'a Tree, path: &str) -> Option<&'a Inode> {
    let names = path.split('/').filter(|part| !part.is_empty());
    let found = names.map(|part| Name::new(part.as_bytes()).expect("a name"));
    let id = found.into_iter().try_fold(Tree::ROOT, |id, name| tree.lookup(id, &name))?;
    Some(tree.inode(id))
}

fn names(tree: &Tree, path: &str) -> Vec<String> {
    match find(tree, path).map(|inode| &inode.content) {
        Some(Content::Directory(directory)) => {
            let names = directory.entries.keys();
            names.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()).collect()
        }
        other => panic!("{path} is no directory but {other:?}"),
    }
}

async fn a_sandbox_in_which_nothing_ran_exports_nothing(lab: &Lab) {
    let sandbox = lab.own(SandboxSpec { export: true, ..spec() }.into()).await.expect("a sandbox");
    let layer = exported(&sandbox).await;
    assert_eq!(names(&layer.tree, "/"), [""; 0]);
    // What only looks leaves no trace either.
    sh("cat /etc/hosts /etc/hostname >/dev/null; ls /proc /tmp >/dev/null").text(&sandbox).await;
    assert_eq!(names(&exported(&sandbox).await.tree, "/"), [""; 0]);
    sandbox.end().await;
}

async fn everything_that_programs_did_is_in_the_layer(lab: &Lab) {
    let sandbox = lab.own(SandboxSpec { export: true, ..spec() }.into()).await.expect("a sandbox");
    python(DEEDS).text(&sandbox).await;
    let layer = exported(&sandbox).await;
    let tree = &layer.tree;
    assert_eq!(names(tree, "/"), ["deed", "etc"]);
    assert_eq!(names(tree, "/etc"), ["added", "passwd", "skel"]);
    let kinds = ["/etc/passwd", "/etc/skel", "/deed/fifo", "/deed/null"];
    let [passwd, skel, fifo, null] = kinds.map(|path| &find(tree, path).expect(path).content);
    assert!(matches!(passwd, Content::Whiteout), "{passwd:?}");
    assert!(matches!(skel, Content::Directory(directory) if directory.opaque), "{skel:?}");
    assert!(matches!(fifo, Content::Fifo), "{fifo:?}");
    assert!(matches!(null, Content::CharDevice(number) if (number.major, number.minor) == (1, 3)));
    let file = find(tree, "/deed/file").expect("there");
    let of = &file.attributes;
    assert_eq!((of.mode, of.uid, of.gid), (0o6750, 70_000, 3_000_000));
    assert_eq!(of.mtime, (1_000_000_000, 123_456_789));
    let xattr = |name: &[u8]| of.xattrs.get(name).map(|value| value.to_vec());
    assert_eq!(xattr(b"user.note").as_deref(), Some(&b"a\nb\0c"[..]));
    assert_eq!(xattr(b"security.capability").map(|value| value.len()), Some(20));
    let hard = find(tree, "/deed/hard").expect("there");
    assert!(std::ptr::eq(file, hard), "one inode");
    let symlink = &find(tree, "/deed/symlink").expect("there").content;
    assert!(matches!(symlink, Content::Symlink(text) if **text == [b'x'; 4000]));
    let long = format!("/deed/{}/{}/{}", "d".repeat(200), "e".repeat(200), "f".repeat(255));
    let Content::File(data) = find(tree, &long).expect("there").content else { panic!("a file") };
    let mut text = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&layer.file, &mut text, data.start).expect("read");
    assert_eq!(&text, b"long");
    let Content::File(sparse) = find(tree, "/deed/sparse").expect("there").content else {
        panic!("a file")
    };
    assert_eq!(sparse.size, 50_000_000);
    sandbox.end().await;
}

async fn a_sandbox_that_was_not_made_for_it_exports_nothing(lab: &Lab) {
    let error = lab.plain().await.export().await.expect_err("refused");
    assert!(matches!(error, ExecError::Refused(ExecFailure::BadRequest(_))), "{error:?}");
}

async fn trust_stores_that_are_made_anew_have_no_authority_of_the_sandbox(lab: &Lab) {
    let sandbox = lab.own(SandboxSpec { export: true, ..spec() }.into()).await.expect("a sandbox");
    let authority = sh("cat /etc/ssl/certs/matchlock-ca.crt").text(&sandbox).await;
    // Its first line of content is its own: the serial number is in it.
    let line = authority.lines().nth(1).expect("a certificate").to_owned();
    // What update-ca-certificates leaves, which itself takes minutes in an emulated machine.
    let script = format!(
        "cd /etc/ssl/certs; rm matchlock-ca.crt c185044c.0
         cp ca-certificates.crt new; mv new ca-certificates.crt; grep -c '{line}' ca-certificates.crt
         cp java/cacerts new && mv new java/cacerts && cp java/cacerts /opt/of-an-application.jks
         ln -s /usr/local/share/ca-certificates/matchlock-ca.crt matchlock-ca.pem
         touch /usr/local/share/ca-certificates/matchlock-ca.crt; ln -s matchlock-ca.pem c185044c.0"
    );
    assert_eq!(sh(&script).text(&sandbox).await, "1");
    let layer = exported(&sandbox).await;
    sandbox.end().await;
    let bundle = find(&layer.tree, "/etc/ssl/certs/ca-certificates.crt").expect("made anew");
    let Content::File(bundle) = &bundle.content else { panic!("a bundle") };
    assert!(read(&layer, bundle).matches("BEGIN CERTIFICATE").count() > 1, "the others are there");
    let mut rest = vec![(String::new(), Tree::ROOT)];
    while let Some((path, id)) = rest.pop() {
        assert!(!path.contains("matchlock"), "{path}");
        match &layer.tree.inode(id).content {
            Content::File(data) => {
                // Java's store knows it by its name, and has it in DER.
                let found = read(&layer, data);
                assert!(!found.contains(&line), "{path} has the authority");
                assert!(!found.contains("matchlock"), "{path} has the authority");
            }
            Content::Symlink(target) => {
                let target = String::from_utf8_lossy(&target[..]).into_owned();
                assert!(!target.contains("matchlock"), "{path} leads to {target}");
            }
            Content::Directory(directory) => {
                rest.extend(directory.entries.iter().map(|(name, id)| {
                    (format!("{path}/{}", String::from_utf8_lossy(name.as_bytes())), *id)
                }));
            }
            _ => {}
        }
    }
}

fn read(layer: &Layer, data: &FileData) -> String {
    let mut bytes = vec![0; usize::try_from(data.size).expect("small")];
    std::os::unix::fs::FileExt::read_exact_at(&layer.file, &mut bytes, data.start).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}
