//! Credentials from `config.json` and from helper programs.

use std::path::Path;

use matchlock_testkit::write_program;
use serde_json::{Value, json};

use crate::reference::RegistryName;
use crate::registry::credentials::{Credential, CredentialError, Credentials};

const CANARY: &str = "hunter2-canary";

struct Home(tempfile::TempDir);

impl Home {
    fn new(config: &Value) -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        home.write(&config.to_string());
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path().join("config.json"), text).expect("written");
    }

    fn helper(&self, name: &str, script: &str) {
        let path = self.path().join(format!("docker-credential-{name}"));
        write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    }

    async fn find(&self, registry: &str) -> Result<Option<Shown>, CredentialError> {
        let search = self.path().as_os_str().to_owned();
        let credentials = Credentials::docker(self.path().join("config.json"), search);
        let registry: RegistryName = registry.parse().expect("a registry");
        Ok(credentials.find(&registry).await?.map(shown))
    }
}

/// Kind, user, secret.
type Shown = (&'static str, String, String);

fn shown(credential: Credential) -> Shown {
    match credential {
        Credential::Password { user, password } => ("password", user, password.reveal().to_owned()),
        Credential::Identity(token) => ("identity", String::new(), token.reveal().to_owned()),
        Credential::Registry(token) => ("registry", String::new(), token.reveal().to_owned()),
    }
}

fn password(user: &str, password: &str) -> Option<Shown> {
    Some(("password", user.to_owned(), password.to_owned()))
}

/// `me:p:w` in Base64.
const ME: &str = "bWU6cDp3";

#[tokio::test]
async fn entries_of_the_file() {
    let home = Home::new(&json!({"auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
        "r.example": {"auth": ME},
        "https://url.example/v2/": {"auth": ME},
        "port.example:5000": {"auth": ME},
        "path.example/team": {"auth": ME},
        "empty.example": {},
        "two.example": {"username": "a", "password": "b"},
        "token.example": {"identitytoken": "t", "auth": ME},
        "direct.example": {"registrytoken": "d"},
        "padded.example": {"auth": "bWU6cHcAAAA="},
        "unpadded.example": {"auth": "bWU6cHc"},
    }}));
    let me = || password("me", "p:w");
    for (registry, expected) in [
        ("docker.io", password("hub", "pw")),
        ("r.example", me()),
        ("url.example", me()),
        ("port.example:5000", me()),
        ("port.example", None),
        ("path.example", None),
        ("empty.example", None),
        ("other.example", None),
        ("two.example", password("a", "b")),
        ("token.example", Some(("identity", String::new(), "t".into()))),
        ("direct.example", Some(("registry", String::new(), "d".into()))),
        ("padded.example", password("me", "pw")),
        ("unpadded.example", password("me", "pw")),
    ] {
        assert_eq!(home.find(registry).await.expect(registry), expected, "{registry}");
    }
}

#[tokio::test]
async fn files_that_are_not_usable() {
    let home =
        Home::new(&json!({"auths": {"r.example": {"auth": "%"}, "s.example": {"auth": "bWU="}}}));
    for registry in ["r.example", "s.example"] {
        let error = home.find(registry).await.expect_err("not Base64 of two parts");
        assert!(matches!(error, CredentialError::Entry { .. }), "{error}");
    }
    home.write(&format!("{{\"auths\": {{\"r.example\": {{\"auth\": 5, \"x\": \"{CANARY}\"}}}}}}"));
    let error = home.find("r.example").await.expect_err("not as Docker writes it");
    assert!(matches!(error, CredentialError::Invalid { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(CANARY));
    std::fs::remove_file(home.path().join("config.json")).expect("removed");
    assert_eq!(home.find("r.example").await.expect("no file is no credentials"), None);
    std::fs::create_dir(home.path().join("config.json")).expect("a directory");
    let error = home.find("r.example").await.expect_err("not a file");
    assert!(matches!(error, CredentialError::Read { .. }), "{error}");
}

#[tokio::test]
async fn helpers_are_asked_by_name_of_the_registry() {
    let home = Home::new(&json!({
        "auths": {"r.example": {"auth": ME}, "file.example": {"auth": ME}},
        "credsStore": "all",
        "credHelpers": {"own.example": "own", "docker.io": "own"},
    }));
    // The answer names what was asked for.
    let answer =
        r#"printf '{"ServerURL":"%s","Username":"NAME","Secret":"%s"}' "$server" "$server""#;
    let none = "if [ \"$server\" = file.example ]; then echo 'credentials not found in native keychain'; exit 1; fi";
    let read = "server=$(cat); [ \"$1\" = get ] || exit 9";
    home.helper("all", &format!("{read}\n{none}\n{}", answer.replace("NAME", "all")));
    home.helper("own", &format!("{read}\n{}", answer.replace("NAME", "own")));
    for (registry, expected) in [
        ("own.example", password("own", "own.example")),
        ("docker.io", password("own", "https://index.docker.io/v1/")),
        ("r.example", password("all", "r.example")),
        ("port.example:5000", password("all", "port.example:5000")),
        ("file.example", password("me", "p:w")),
    ] {
        assert_eq!(home.find(registry).await.expect(registry), expected, "{registry}");
    }
}

#[tokio::test]
async fn a_helper_may_give_an_identity_token() {
    let home = Home::new(&json!({"credsStore": "t"}));
    home.helper("t", r#"cat >/dev/null; echo '{"Username":"<token>","Secret":"abc"}'"#);
    let found = home.find("r.example").await.expect("an answer");
    assert_eq!(found, Some(("identity", String::new(), "abc".into())));
}

#[tokio::test]
async fn helpers_that_fail_tell_no_secret() {
    let home = Home::new(&json!({"credsStore": "bad"}));
    for script in [
        format!("echo {CANARY}; echo {CANARY} >&2; exit 1"),
        format!("echo '{{\"Secret\": 5, \"x\": \"{CANARY}\"}}'"),
        format!("echo {CANARY}"),
        "exit 3".to_owned(),
    ] {
        home.helper("bad", &script);
        let error = home.find("r.example").await.expect_err(&script);
        assert!(matches!(error, CredentialError::HelperFailed { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
}

#[tokio::test]
async fn a_helper_is_a_program_of_the_search_path_only() {
    let home = Home::new(&json!({"credsStore": "missing"}));
    let missing = home.find("r.example").await.expect_err("missing");
    assert!(matches!(missing, CredentialError::HelperStart { .. }), "{missing}");
    home.helper("x", "echo '{\"Username\":\"u\",\"Secret\":\"s\"}'");
    let sideways = format!("x/../../{}/docker-credential-x", home.path().display());
    home.write(&json!({"credsStore": sideways}).to_string());
    let error = home.find("r.example").await.expect_err("a path");
    assert!(matches!(error, CredentialError::HelperStart { .. }), "{error}");
    let search = std::ffi::OsString::from(".:relative:");
    let credentials = Credentials::docker(home.path().join("config.json"), search);
    let registry: RegistryName = "r.example".parse().expect("a registry");
    assert!(credentials.find(&registry).await.is_err());
}
