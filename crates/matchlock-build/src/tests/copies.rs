//! COPY, ADD and WORKDIR.

use super::lab::Lab;
use std::os::unix::fs::symlink;

/// Files of an image that one COPY added, without directories of the base.
fn copied(lab: &mut Lab, line: &str) -> Vec<String> {
    let built = lab.build(&format!("FROM base\n{line}\n"));
    let empty = lab.build("FROM base\n");
    let before = lab.files(&empty.image);
    let after = lab.files(&built.image);
    after
        .iter()
        .filter(|(path, text)| before.get(*path) != Some(*text))
        .map(|(path, text)| format!("{path} {text}"))
        .collect()
}

fn lab() -> Lab {
    let lab = Lab::new();
    for path in ["a.txt", "b.txt", "dir/c", "dir/sub/d", "odd [x]"] {
        lab.put(path, path);
    }
    lab
}

#[test]
fn files_go_where_docker_puts_them() {
    let mut lab = lab();
    for (line, expected) in [
        ("COPY a.txt /new", vec!["/new 644 0:0 a.txt"]),
        ("COPY a.txt /new/", vec!["/new 755 0:0 /", "/new/a.txt 644 0:0 a.txt"]),
        ("COPY a.txt /x/y", vec!["/x 755 0:0 /", "/x/y 644 0:0 a.txt"]),
        ("COPY a.txt /srv", vec!["/srv/a.txt 644 0:0 a.txt"]),
        ("COPY *.txt /srv/", vec!["/srv/a.txt 644 0:0 a.txt", "/srv/b.txt 644 0:0 b.txt"]),
        ("COPY a.txt /name", vec!["/name 644 0:0 a.txt"]),
        ("COPY a.txt /lib/", vec!["/usr/lib/a.txt 644 0:0 a.txt"]),
        ("COPY /../a.txt .", vec!["/a.txt 644 0:0 a.txt"]),
        ("COPY nothing* /", vec![]),
        ("COPY [\"odd [[]x]\", \"/o d\"]", vec!["/o d 644 0:0 odd [x]"]),
        ("COPY d*/c /", vec!["/c 644 0:0 dir/c"]),
        ("WORKDIR /srv/w\nCOPY a.txt ../z", vec!["/srv/w 755 0:0 /", "/srv/z 644 0:0 a.txt"]),
        ("WORKDIR /w\nCOPY a.txt .", vec!["/w 755 0:0 /", "/w/a.txt 644 0:0 a.txt"]),
        (
            "WORKDIR /w\nWORKDIR x\nCOPY a.txt b",
            vec!["/w 755 0:0 /", "/w/x 755 0:0 /", "/w/x/b 644 0:0 a.txt"],
        ),
        (
            "COPY --chown=app:staff --chmod=4755 a.txt /x/",
            vec!["/x 755 1000:50 /", "/x/a.txt 4755 1000:50 a.txt"],
        ),
        ("ARG N=a\nENV D=/q\nCOPY $N.txt ${D}r", vec!["/qr 644 0:0 a.txt"]),
    ] {
        assert_eq!(copied(&mut lab, line), expected, "{line}");
    }
}

#[test]
fn of_a_directory_its_content_is_copied() {
    let mut lab = lab();
    assert_eq!(
        copied(&mut lab, "COPY --chmod=755 dir /srv"),
        ["/srv/c 755 0:0 dir/c", "/srv/sub 755 0:0 /", "/srv/sub/d 755 0:0 dir/sub/d",],
        "and /srv stays what it is"
    );
    let made = copied(&mut lab, "COPY dir/sub /p/q");
    assert_eq!(made.len(), 3, "{made:?}");
    assert_eq!(made[2], "/p/q/d 644 0:0 dir/sub/d");
    lab.put("tree/lib/x", "");
    assert!(lab.error("FROM base\nCOPY tree /").contains("a directory cannot replace \"/lib\""));
    lab.put("tree2/srv", "");
    assert!(
        lab.error("FROM base\nCOPY tree2 /")
            .contains("a file cannot replace the directory \"/srv\"")
    );
    let root = lab.build("FROM base\nCOPY dir /\n");
    assert_eq!(lab.file(&root, "/sub/d"), "644 0:0 dir/sub/d");
}

#[test]
fn links_are_followed_when_named_and_kept_within_directories() {
    let mut lab = lab();
    symlink("../a.txt", lab.context().join("dir/link")).expect("a link");
    symlink("/etc/passwd", lab.context().join("host")).expect("a link");
    assert_eq!(copied(&mut lab, "COPY dir/link /l"), ["/l 644 0:0 a.txt"]);
    assert!(
        copied(&mut lab, "COPY dir /srv/").contains(&"/srv/link 777 0:0 -> ../a.txt".to_owned())
    );
    assert!(lab.error("FROM base\nCOPY host /h").contains("no file \"host\""));
}

#[test]
fn what_is_ignored_is_not_copied() {
    let mut lab = lab();
    lab.put(".dockerignore", "**\n!dir/sub\n");
    let made = copied(&mut lab, "COPY . /z");
    assert_eq!(made.len(), 4, "{made:?}");
    assert!(made[3].starts_with("/z/sub/d ") || made[3].starts_with("/z/dir/sub/d "), "{made:?}");
    assert!(lab.error("FROM base\nCOPY a.txt /").contains("no file \"a.txt\""));
    lab.put(".dockerignore", "**\n!nothing\n");
    assert_eq!(copied(&mut lab, "COPY . /srv"), [""; 0]);
}

#[test]
fn here_documents_are_files() {
    let mut lab = lab();
    let lines = "ENV V=1\nCOPY <<one <<-'two' a.txt /d/\nx $V \\$V\none\n\t$V\ntwo";
    assert_eq!(
        copied(&mut lab, lines),
        [
            "/d 755 0:0 /",
            "/d/a.txt 644 0:0 a.txt",
            "/d/one 644 0:0 x 1 $V\n",
            "/d/two 644 0:0 $V\n",
        ]
    );
}

fn archive(gzip: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o640);
    header.set_uid(11);
    header.set_gid(12);
    builder.append_data(&mut header, "in/side", &b"hi"[..]).expect("in memory");
    let bytes = builder.into_inner().expect("in memory");
    if !gzip {
        return bytes;
    }
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn add_unpacks_archives_and_copies_the_rest() {
    let mut lab = lab();
    lab.put("plain.tar", archive(false));
    lab.put("packed.tgz", archive(true));
    lab.put("not.tar", "no archive");
    lab.put("x.tar.xz", b"\xfd7zXZ\0rest");
    for name in ["plain.tar", "packed.tgz"] {
        let made = copied(&mut lab, &format!("ADD {name} /u"));
        assert_eq!(made[2], "/u/in/side 640 11:12 hi", "{made:?}");
        let made = copied(&mut lab, &format!("ADD --chown=5:6 {name} /srv"));
        assert_eq!(made[1], "/srv/in/side 640 5:6 hi", "{made:?}");
    }
    assert_eq!(copied(&mut lab, "ADD not.tar a.txt /srv/").len(), 2);
    assert_eq!(copied(&mut lab, "COPY --chmod=600 not.tar /t"), ["/t 600 0:0 no archive"]);
    assert!(lab.error("FROM base\nADD x.tar.xz /").contains("\"x.tar.xz\" is compressed in a way"));
}

#[test]
fn a_working_directory_belongs_to_the_user() {
    let mut lab = lab();
    assert_eq!(
        copied(&mut lab, "USER app\nWORKDIR /home/app"),
        ["/home 755 1000:1001 /", "/home/app 755 1000:1001 /"]
    );
    assert_eq!(copied(&mut lab, "WORKDIR /srv"), [""; 0]);
}
