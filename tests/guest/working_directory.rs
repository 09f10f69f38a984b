//! Where programs start.

use matchlock_core::ExecFailure;

use crate::lab::Lab;
use crate::run::{argv, sh};

cases![
    a_program_starts_in_the_directory_that_was_given,
    a_directory_that_cannot_be_entered_is_refused,
];

async fn a_program_starts_in_the_directory_that_was_given(lab: &Lab) {
    let sandbox = lab.plain().await;
    assert_eq!(argv(["pwd"]).text(sandbox).await, "/", "by default");
    sh("mkdir -p '/tmp/a b/ü'; ln -sfn /usr/share /tmp/link-to-share").text(sandbox).await;
    let cases = [
        ("/tmp", "/tmp"),
        ("/tmp/a b/ü", "/tmp/a b/ü"),
        ("/usr/../tmp/.", "/tmp"),
        ("/tmp/link-to-share", "/usr/share"),
        // Relative to the default.
        ("usr/share", "/usr/share"),
    ];
    for (directory, expected) in cases {
        let text = argv(["pwd", "-P"]).dir(directory).text(sandbox).await;
        assert_eq!(text, expected, "{directory:?}");
    }
}

async fn a_directory_that_cannot_be_entered_is_refused(lab: &Lab) {
    let sandbox = lab.plain().await;
    sh("mkdir -p /tmp/of-root/inner; chmod 0700 /tmp/of-root").text(sandbox).await;
    let cases = [
        ("/no/such/directory", "root"),
        ("/etc/passwd", "root"),
        ("/etc/passwd/below", "root"),
        ("/tmp/of-root", "nobody"),
        ("/tmp/of-root/inner", "nobody"),
        ("/root", "nobody"),
        ("", "root"),
    ];
    for (directory, user) in cases {
        let failure = sh(":").dir(directory).user(user).refusal(sandbox).await;
        let is_expected =
            matches!(&failure, ExecFailure::WorkingDirectory(text) if text.contains(directory));
        assert!(is_expected, "{directory:?} as {user}: {failure:?}");
    }
    assert_eq!(argv(["pwd"]).dir("/tmp/of-root").text(sandbox).await, "/tmp/of-root", "as root");
}
