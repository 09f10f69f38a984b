//! The network of the steps of a build.

use std::fs;

use matchlock_testkit::TestImage;

use crate::lab::{API, EVIL, NetLab};

cases![a_step_reaches_what_is_allowed_and_nothing_else];

fn a_step_reaches_what_is_allowed_and_nothing_else() {
    let lab = NetLab::new();
    let archive = fs::File::open(TestImage::Debian.path()).expect("open");
    let import = lab.lab().matchlock(&["image", "import", "debian:local"]).stdin(archive);
    import.finish().expect(0);
    let context = lab.path("context");
    fs::create_dir(&context).expect("mkdir");
    let file = format!(
        "FROM debian:local\n\
         RUN echo \"$KEY\"; curl -sSo /dev/null -H \"X-Key: $KEY\" https://{API}/own; ! curl -sS https://{EVIL}/one\n\
         RUN --network=none ! curl -sS https://{API}/sealed\n"
    );
    fs::write(context.join("Dockerfile"), file).expect("write");
    let (dns, ca) = (lab.dns.address().to_string(), lab.path("ca.pem"));
    let secret = format!("KEY=value-of-the-key@{API}");
    let context = context.to_str().expect("UTF-8");
    let ca = ca.to_str().expect("UTF-8");
    let args = ["build", "-t", "x", "--no-cache", "--json", "--dns-servers", &dns];
    let args = [&args[..], &["--upstream-ca", ca, "--secret", &secret, context]].concat();
    let built = lab.lab().matchlock(&args).finish().expect(0);
    let requests = lab.origin.requests();
    assert_eq!(requests.len(), 1, "{}", built.err());
    assert_eq!(requests[0].header("x-key"), Some("value-of-the-key"));
    let report: serde_json::Value = serde_json::from_str(&built.out()).expect("JSON");
    assert_eq!(report["refused"][0]["host"], EVIL, "{report}");
    assert!(!built.err().contains("value-of-the-key"), "a placeholder is all that a step has");
}
