//! What programs find in their environment.

use std::collections::BTreeMap;

use matchlock_core::{ExecFailure, SandboxHandle};

use crate::lab::{Lab, SANDBOX_VARIABLE};
use crate::run::{Program, argv};

cases![
    the_environment_is_exactly_what_was_given,
    later_settings_of_a_variable_win,
    values_are_passed_on_byte_for_byte,
    a_variable_that_no_environment_can_hold_is_refused,
];

type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that name a bundle with the sandbox's authority in it, and those that add to one.
const BUNDLE: [&str; 12] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "HEX_CACERTS_PATH",
];
const EXTRA: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

fn env() -> Program {
    argv(["env", "-0"])
}

async fn seen(program: Program, sandbox: &SandboxHandle) -> Variables {
    let output = program.on(sandbox).await.stdout;
    let lines = output.split(|&byte| byte == 0).filter(|line| !line.is_empty());
    let mut variables = Variables::new();
    for line in lines {
        let at = line.iter().position(|&byte| byte == b'=').expect("a name");
        let (name, value) = (line[..at].to_vec(), line[at + 1..].to_vec());
        assert_eq!(variables.insert(name, value), None, "twice: {line:?}");
    }
    variables
}

fn expected(variables: &[(&[u8], &[u8])]) -> Variables {
    let (name, value) = SANDBOX_VARIABLE;
    let always: [(&[u8], &[u8]); 3] =
        [(b"PATH", PATH.as_bytes()), (b"HOME", b"/root"), (name, value)];
    let bundles =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"];
    let bundle = bundles.into_iter().find(|path| std::path::Path::new(path).exists());
    let bundle = bundle.unwrap_or(bundles[0]).as_bytes();
    let trust = BUNDLE.map(|name| (name.as_bytes(), bundle));
    let extra = EXTRA.map(|name| (name.as_bytes(), &b"/etc/ssl/certs/matchlock-ca.crt"[..]));
    let all = trust.iter().chain(&extra).chain(&always).chain(variables);
    all.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

async fn the_environment_is_exactly_what_was_given(lab: &Lab) {
    let sandbox = lab.plain().await;
    assert_eq!(seen(env(), sandbox).await, expected(&[]));
    let program = env().var("A", "1").var("EMPTY", "").user("nobody").var("HOME", "/x");
    let given: [(&[u8], &[u8]); 3] = [(b"A", b"1"), (b"EMPTY", b""), (b"HOME", b"/x")];
    assert_eq!(seen(program, sandbox).await, expected(&given));
}

async fn later_settings_of_a_variable_win(lab: &Lab) {
    let (name, _) = SANDBOX_VARIABLE;
    let path = "/usr/bin";
    let program =
        env().var("A", "1").var("A", "2").var(name, "exec").var("PATH", path).var("A", "3");
    let given: [(&[u8], &[u8]); 3] = [(b"A", b"3"), (name, b"exec"), (b"PATH", path.as_bytes())];
    assert_eq!(seen(program, lab.plain().await).await, expected(&given));
}

async fn values_are_passed_on_byte_for_byte(lab: &Lab) {
    let every_byte: Vec<u8> = (1..=u8::MAX).collect();
    let long = vec![b'x'; 100_000];
    let given: [(&[u8], &[u8]); 6] = [
        (b"LINES_", b"one\ntwo\n"),
        (b"SIGN", b"a=b=c"),
        ("ÜML".as_bytes(), "ä☃".as_bytes()),
        (b"\xff\xfe", b"\x80"),
        (b"EVERY", &every_byte),
        (b"LONG", &long),
    ];
    let program = given.iter().fold(env(), |program, (name, value)| program.var(name, value));
    assert_eq!(seen(program, lab.plain().await).await, expected(&given));
}

async fn a_variable_that_no_environment_can_hold_is_refused(lab: &Lab) {
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
        let failure = env().var(name, value).refusal(lab.plain().await).await;
        assert!(matches!(failure, ExecFailure::BadRequest(_)), "{name:?}: {failure:?}");
    }
}
