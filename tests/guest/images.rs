//! Images as root file systems.

use matchlock_core::image::manifest::RuntimeConfig;
use matchlock_core::image::tree::Attributes;
use matchlock_core::{ExecFailure, ExitStatus, SandboxSpec};

use crate::image::{Layers, for_reading, mode};
use crate::lab::{Lab, Wanted, spec};
use crate::run::{argv, sh};

cases![
    an_image_of_layers_is_the_root_and_is_not_changed,
    executions_have_the_defaults_of_the_image,
    a_working_directory_that_an_image_lacks_is_made,
    an_image_of_127_layers_runs,
    two_machines_share_an_image,
];

async fn an_image_of_layers_is_the_root_and_is_not_changed(lab: &Lab) {
    let owned = Attributes { mode: 0o4751, uid: 70_000, gid: 7, mtime: (1_000, 5), ..mode(0) };
    let layers = Layers::with_shell()
        .add(|layer| {
            layer.add_file(b"/kept", owned, &b"first"[..]).expect("added");
            layer.add_file(b"/replaced", mode(0o644), &b"first"[..]).expect("added");
            layer.add_file(b"/removed", mode(0o644), &b"first"[..]).expect("added");
            layer.add_file(b"/moved/file", mode(0o644), &b"first"[..]).expect("added");
            layer.add_hard_link(b"/linked", b"kept").expect("added");
        })
        .add(|layer| {
            layer.add_file(b"/replaced", mode(0o644), &b"second"[..]).expect("added");
            layer.add_whiteout(b"/removed").expect("added");
            layer.add_symlink(b"/link", mode(0o777), b"replaced").expect("added");
            layer.add_dir(b"/", mode(0o750)).expect("added");
        });
    let image = layers.image(RuntimeConfig::default());
    let sandbox = lab.own(Wanted::of_image(image, spec())).await.expect("a sandbox");
    let looks = [
        ("cat /kept /link", "firstsecond"),
        ("stat -c '%a %u %g %h %.9Y' /kept", "4751 70000 7 2 1000.000000005"),
        ("stat -c %a /", "750"),
        ("ls -d /removed 2>&1 || :", "ls: cannot access '/removed': No such file or directory"),
        ("mv /moved /there; cat /there/file; ls -d /moved 2>/dev/null || :", "first"),
        ("echo third >/replaced; cat /link", "third"),
        ("cat /proc/mounts | { read -r root; echo $root; } | wc -w", "6"),
        ("stat -f -c %T /etc", "overlayfs"),
    ];
    for (script, seen) in looks {
        assert_eq!(sh(script).text(&sandbox).await, seen, "{script}");
    }
    sandbox.end().await;
}

async fn executions_have_the_defaults_of_the_image(lab: &Lab) {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let image = Layers::with_shell()
        .add(|layer| {
            let passwd = &b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n"[..];
            layer.add_file(b"/etc/passwd", mode(0o644), passwd).expect("added");
            layer.add_dir(b"/place/here", mode(0o755)).expect("added");
        })
        .image(RuntimeConfig {
            user: Some("user".to_owned()),
            working_dir: Some("/place/here".to_owned()),
            env: vec![
                pair("FROM_IMAGE", "yes"),
                pair("SANDBOX_LEVEL", "hidden"),
                pair("PATH", "/bin"),
            ],
            ..RuntimeConfig::default()
        });
    let sandbox = lab.own(Wanted::of_image(image, spec())).await.expect("a sandbox");
    let script = "id -u; id -g; pwd; echo $FROM_IMAGE $SANDBOX_LEVEL $PATH $HOME";
    let seen = sh(script).text(&sandbox).await;
    assert_eq!(seen, "1000\n1001\n/place/here\nyes from the sandbox /bin /home/user");
    let own = sh(script).user("root").dir("/").var("FROM_IMAGE", "no").text(&sandbox).await;
    assert_eq!(own, "0\n0\n/\nno from the sandbox /bin /root");
    sandbox.end().await;
}

async fn a_working_directory_that_an_image_lacks_is_made(lab: &Lab) {
    let boot = async |working_dir: &str| {
        let image = Layers::with_shell().image(RuntimeConfig {
            user: Some("1000:1000".to_owned()),
            working_dir: Some(working_dir.to_owned()),
            ..RuntimeConfig::default()
        });
        lab.own(Wanted::of_image(image, SandboxSpec { network: None, ..spec() }))
            .await
            .expect("a sandbox")
    };
    let sandbox = boot("/made/for us").await;
    let script = "pwd; stat -c '%a %u %g' /made '/made/for us'";
    assert_eq!(sh(script).text(&sandbox).await, "/made/for us\n755 0 0\n755 0 0");
    // Only the image's own: a directory that somebody has mistyped is an error.
    let failure = sh(":").dir("/made/four us").refusal(&sandbox).await;
    assert!(matches!(failure, ExecFailure::WorkingDirectory(_)), "{failure:?}");
    sandbox.end().await;
    let sandbox = boot("/bin/sh/below").await;
    let failure = sh(":").refusal(&sandbox).await;
    let names = matches!(&failure, ExecFailure::WorkingDirectory(text) if text.contains("/bin/sh"));
    assert!(names, "{failure:?}");
    assert_eq!(sh("pwd").dir("/").text(&sandbox).await, "/", "it is of no use, and of no harm");
    sandbox.end().await;
}

async fn an_image_of_127_layers_runs(lab: &Lab) {
    let layers = (1..127).fold(Layers::with_shell(), |layers, number| {
        layers.add(|layer| {
            let path = format!("/layers/{number:03}");
            layer
                .add_file(path.as_bytes(), mode(0o644), format!("{number}\n").as_bytes())
                .expect("added");
            layer.add_file(b"/last", mode(0o644), format!("{number}").as_bytes()).expect("added");
        })
    });
    let image = layers.image(RuntimeConfig::default());
    let sandbox = lab.own(Wanted::of_image(image, spec())).await.expect("a sandbox");
    let expected: Vec<String> = (1..127).map(|number| number.to_string()).collect();
    assert_eq!(sh("cat /layers/*").text(&sandbox).await, expected.join("\n"));
    assert_eq!(sh("cat /last").text(&sandbox).await, "126");
    sandbox.end().await;
}

async fn two_machines_share_an_image(lab: &Lab) {
    // Each opens the files anew: a lock that one monitor takes would keep the other out.
    let image = Layers::with_shell().image(RuntimeConfig::default());
    let duplicate = || {
        let files = image.files.iter();
        let files = files.map(|(file, length)| (for_reading(file), *length)).collect();
        let runtime = image.config.clone();
        let reference = image.reference.clone();
        let image = matchlock_core::image::store::RootImage {
            files,
            config: runtime,
            reference,
            digest: image.digest,
        };
        Wanted::of_image(image, SandboxSpec { network: None, ..spec() })
    };
    let (one, other) = tokio::join!(lab.own(duplicate()), lab.own(duplicate()));
    let (one, other) = (one.expect("a sandbox"), other.expect("another"));
    for sandbox in [&one, &other] {
        assert_eq!(argv(["cat", "/etc/hostname"]).status(sandbox).await, ExitStatus::Code(0));
    }
    one.end().await;
    other.end().await;
}
