//! Sandboxes of images.

use std::fs;

use matchlock_testkit::image_archive::{Format, Packing};
use matchlock_testkit::{Lab, PATIENCE, Pty, TestImage, wait_until};
use serde_json::json;

use crate::images::{bytes, with_shell};
use crate::stock::{Stock, blobs, run};

cases![
    the_programs_of_a_distribution_work,
    an_image_of_128_layers_runs,
    an_image_without_a_shell_runs_its_program,
    how_an_image_is_to_be_run_is_heeded,
    an_interactive_shell_of_an_image,
    a_kept_sandbox_has_its_image_whatever_becomes_of_the_name,
];

/// Imports an archive from a pipe and says under which name.
fn import(lab: &Lab, tag: &str, archive: Vec<u8>) {
    let import = lab.matchlock(&["image", "import", tag]);
    let imported = import.finish_with(archive).expect(0);
    assert!(imported.out().starts_with(&format!("Imported: {tag}\n")), "{}", imported.out());
}

fn the_programs_of_a_distribution_work(stock: &Stock) {
    let lab = stock.lab();
    let script = r#"set -e
        . /etc/os-release; echo "$ID $(id -un) $PWD"
        python3 -c 'import hashlib, json, sqlite3, ssl; print(json.dumps([6 * 7]))'
        mkdir /srv/site; cd /srv/site; echo served > file
        python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &
        curl --silent --retry 60 --retry-connrefused --retry-delay 1 --noproxy '*' \
            http://127.0.0.1:8000/file
        export HOME=/root; git init --quiet --initial-branch=main /srv/repo; cd /srv/repo
        git config user.name n; git config user.email e@registry.example
        echo text > file; git add file; git commit --quiet --message=first
        git clone --quiet /srv/repo /srv/clone; git -C /srv/clone log --format=%s
        ls /etc/ssl/certs | grep -c .
        stat -f -c %T /
        kill %1"#;
    let out = run(&lab, "debian:local", &[], &["bash", "-c", script]).finish().expect(0).out();
    let lines: Vec<&str> = out.lines().collect();
    let ["debian root /root", "[42]", "served", "first", certificates, "overlayfs"] = lines[..]
    else {
        panic!("{out}")
    };
    assert!(certificates.parse::<u32>().expect("a number") > 100, "{out}");
}

fn an_image_of_128_layers_runs(_: &Stock) {
    let lab = Lab::new();
    let archive = fs::read(TestImage::ManyLayers.path()).expect("read");
    import(&lab, "many:1", archive);
    assert_eq!(blobs(&lab).len(), 129, "each layer, and one index of all");
    let script = "cat /layers/top; ls /layers | while read -r name; do echo $name; done";
    let run = run(&lab, "many:1", &[], &["/bin/busybox", "sh", "-c", script]).finish();
    let out = run.expect(0).out();
    let mut lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.remove(0), "127");
    lines.sort_unstable();
    let even = (2..=127).filter(|number| number % 2 == 0 || *number == 127);
    let mut left: Vec<String> = even.map(|number: u32| number.to_string()).collect();
    left.push("top".to_owned());
    left.sort_unstable();
    assert_eq!(lines, left);
}

fn an_image_without_a_shell_runs_its_program(_: &Stock) {
    let lab = Lab::new();
    import(&lab, "scratch:1", fs::read(TestImage::Scratch.path()).expect("read"));
    let out = |argv: &[&str]| run(&lab, "scratch:1", &[], argv).finish().expect(0).out();
    assert_eq!(out(&[]), "hello from scratch\n");
    // After the entry point; and nothing of a shell's is heard in them.
    assert_eq!(out(&["echo", "$HOME;", "'a  b'", ""]), "$HOME; 'a  b' \n");
}

fn how_an_image_is_to_be_run_is_heeded(_: &Stock) {
    let lab = Lab::new();
    let script = r#"echo "$0 $*"; id -u; id -g; echo "$PWD $HOME $GREETING"; echo "$PATH""#;
    let image = with_shell(json!({
        "Entrypoint": ["/bin/sh", "-c", script, "entry"],
        "Cmd": ["the", "command"],
        "Env": ["PATH=/bin:/own", "GREETING=from the image"],
        "User": "app",
        "WorkingDir": "/srv/work",
    }));
    import(&lab, "made", bytes(&image, Format::Docker, Packing::Plain));
    let out =
        |flags: &[&str], argv: &[&str]| run(&lab, "made", flags, argv).finish().expect(0).out();
    let all = "1000\n1001\n/srv/work /home/app from the image\n/bin:/own\n";
    assert_eq!(out(&[], &[]), format!("entry the command\n{all}"));
    assert_eq!(
        out(&["-u", "root", "-w", "/bin", "-e", "GREETING=mine"], &["mine"]),
        "entry mine\n0\n0\n/bin /root mine\n/bin:/own\n"
    );
    assert_eq!(out(&["--entrypoint", "echo"], &["a  b"]), "a  b\n");
    assert_eq!(out(&["--entrypoint", ""], &["sh", "-c", "id -un; pwd"]), "app\n/srv/work\n");
}

fn an_interactive_shell_of_an_image(_: &Stock) {
    let lab = Lab::new();
    let image = with_shell(json!({ "Cmd": ["/bin/sh"], "WorkingDir": "/srv/work" }));
    import(&lab, "made", bytes(&image, Format::Oci, Packing::Zstd));
    let mut pty = Pty::new(24, 80);
    let running = run(&lab, "made", &["-it"], &[]).env("TERM", "vt220").spawn_on(&pty);
    pty.wait_for("/srv/work #", PATIENCE);
    pty.send(b"echo $((6 * 7))-$TERM; exit 5\r");
    pty.wait_for("42-vt220", PATIENCE);
    running.finish(PATIENCE).expect(5);
    assert!(pty.is_cooked(), "as it was before");
}

fn a_kept_sandbox_has_its_image_whatever_becomes_of_the_name(_: &Stock) {
    let lab = Lab::new();
    let script = "echo again >>/srv/runs; cat /srv/runs";
    let image = with_shell(json!({"Cmd": ["/bin/sh", "-c", script]}));
    import(&lab, "made", bytes(&image, Format::Docker, Packing::Plain));
    let matchlock =
        |line: &str| lab.matchlock(&line.split(' ').collect::<Vec<_>>()).finish().expect(0);
    let logged = |text: &str| {
        wait_until("a line of the log", PATIENCE, || {
            (matchlock("log --source command web").out() == text).then_some(())
        });
    };
    let id = matchlock("run -d --name web --image made").out();
    logged("again\n");
    matchlock("stop web");
    let removed = matchlock("image rm made").err();
    assert!(removed.contains(id.trim()), "{removed}");
    matchlock("image gc");
    assert_eq!(blobs(&lab).len(), 2, "its layer and its index");
    assert_eq!(matchlock("start web").out(), id);
    logged("again\nagain\nagain\n");
    matchlock("rm -f web");
    matchlock("image gc");
    assert_eq!(blobs(&lab).len(), 0);
}
