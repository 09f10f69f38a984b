//! The secrets of a run, from all the flags that speak of them. No message holds a value.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;

use matchlock_core::policy::{SecretSpec, Secrets};
use matchlock_core::{DescribeChain, SecretRule};
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use super::lists;
use crate::cli::NetworkArgs;
use crate::error::CliError;

/// Permissions with which others than the owner can read a file.
const READABLE_BY_OTHERS: u32 = 0o044;

/// Looks a variable of the environment up.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads and checks all secrets. `warn` is told of what is unwise.
pub(crate) fn collect(
    args: &NetworkArgs,
    lookup: Lookup<'_>,
    warn: &mut dyn FnMut(String),
) -> Result<Secrets, CliError> {
    let mut specs = Vec::new();
    for text in &args.secret {
        let text = text.expose();
        specs.push(SecretSpec::parse(text, lookup).map_err(|error| {
            let shown = without_value(text);
            let why = DescribeChain(error.problem()).to_string();
            CliError::new(format!("invalid secret \"{shown}\": {why}"))
        })?);
    }
    for path in &args.secret_file {
        specs.extend(read_file(path, warn)?);
    }
    for text in &args.secret_placeholder {
        SecretSpec::set_placeholder(&mut specs, text).map_err(|error| {
            CliError::new(format!("invalid secret placeholder: {}", DescribeChain(&error)))
                .hinted("use --secret-placeholder NAME=PLACEHOLDER beside --secret NAME@HOST")
        })?;
    }
    set(&mut specs, "secret-body", &args.secret_body, |spec| spec.body = true)?;
    set(&mut specs, "secret-https-only", &args.secret_https_only, |spec| spec.https_only = true)?;
    set(&mut specs, "secret-scrub", &args.secret_scrub, |spec| spec.scrub = true)?;
    complete(specs)
}

/// The secrets of a sandbox that is started again: their values come from the environment, and what the
/// guest has in their places stays the same.
pub(crate) fn again(rules: &[SecretRule], lookup: Lookup<'_>) -> Result<Secrets, CliError> {
    let mut made = VecDeque::new();
    let specs = rules.iter().map(|rule| {
        let value = lookup(&rule.name).ok_or_else(|| {
            let text = format!("environment variable is not set ${}", rule.name);
            let hint = "the value of a secret is not stored: set the variable, and start again";
            CliError::new(text).hinted(hint)
        })?;
        let placeholder = match matchlock_core::policy::made_of(&rule.placeholder) {
            Some(random) => {
                made.push_back(random);
                None
            }
            None => Some(rule.placeholder.clone()),
        };
        let hosts: Vec<String> = rule.hosts.iter().map(ToString::to_string).collect();
        let spec = SecretSpec::from_parts(&rule.name, value, &hosts)
            .map_err(|error| CliError::new(DescribeChain(&error).to_string()))?;
        let SecretRule { body, https_only, scrub, .. } = *rule;
        Ok(SecretSpec { placeholder, body, https_only, scrub, ..spec })
    });
    let specs = specs.collect::<Result<_, CliError>>()?;
    complete_with(specs, made)
}

fn complete(specs: Vec<SecretSpec>) -> Result<Secrets, CliError> {
    complete_with(specs, VecDeque::new())
}

/// The first random bytes are those that are given.
fn complete_with(
    specs: Vec<SecretSpec>,
    mut given: VecDeque<[u8; 16]>,
) -> Result<Secrets, CliError> {
    let mut failed = None;
    let mut entropy = || {
        if let Some(bytes) = given.pop_front() {
            return bytes;
        }
        let mut bytes = [0; 16];
        // Requests of up to 256 bytes are never cut short (getrandom(2)).
        if let Err(errno) = getrandom(&mut bytes, GetRandomFlags::empty()) {
            failed = Some(errno);
        }
        bytes
    };
    let secrets = Secrets::new(specs, &mut entropy);
    if let Some(errno) = failed {
        return Err(CliError::new(format!("cannot get random bytes: {errno}")));
    }
    secrets.map_err(|error| CliError::new(DescribeChain(&error).to_string()))
}

fn read_file(
    path: &std::ffi::OsStr,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<SecretSpec>, CliError> {
    let name = path.to_string_lossy();
    let unreadable =
        |error: std::io::Error| CliError::of_io(format!("cannot read secret file {name}"), &error);
    let json = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & READABLE_BY_OTHERS != 0 {
        warn(format!("other users can read the secret file {name}: chmod 600 it"));
    }
    SecretSpec::parse_file(&json)
        .map_err(|error| CliError::new(format!("{name}: {}", DescribeChain(&error))))
}

/// Gives an option to the secrets of these names.
fn set(
    specs: &mut [SecretSpec],
    flag: &str,
    names: &[String],
    option: impl Fn(&mut SecretSpec),
) -> Result<(), CliError> {
    let names =
        lists::split(names).map_err(|error| CliError::new(format!("invalid --{flag}: {error}")))?;
    for name in names {
        let mut found = false;
        for spec in specs.iter_mut().filter(|spec| spec.name.as_str() == name) {
            option(spec);
            found = true;
        }
        if !found {
            return Err(CliError::new(format!("--{flag} {name}: there is no secret of this name"))
                .hinted("declare it with --secret NAME@HOST or --secret-file FILE"));
        }
    }
    Ok(())
}

/// The text without what is, or could be, the value: that is everything after the first `=` but the
/// hosts, and even those only where a value cannot have been split in the middle.
fn without_value(text: &str) -> String {
    match text.split_once('=') {
        Some((name, _)) => format!("{name}=…"),
        None => match text.split_once('@') {
            Some((name, hosts)) => format!("{name}@{hosts}"),
            // Neither `=` nor `@`: this may be the value alone.
            None => "…".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const CANARY: &str = "canary-5f1d";

    fn args(secrets: &[&str]) -> NetworkArgs {
        let secret = secrets.iter().map(|text| text.parse().expect("infallible")).collect();
        NetworkArgs { secret, ..NetworkArgs::default() }
    }

    fn here(name: &str) -> Option<String> {
        (name == "HERE").then(|| CANARY.to_owned())
    }

    fn collected(args: &NetworkArgs) -> Result<(Secrets, Vec<String>), CliError> {
        let mut warnings = Vec::new();
        let secrets = collect(args, &here, &mut |text| warnings.push(text))?;
        Ok((secrets, warnings))
    }

    fn refused(args: &NetworkArgs) -> String {
        let error = collected(args).expect_err("refused");
        let text = format!("{} {:?} {error:?}", error.message(), error.hint());
        assert!(!text.contains(CANARY), "{text}");
        error.message().to_owned()
    }

    #[test]
    fn values_come_from_the_flag_or_the_environment_and_keep_their_commas() {
        let args = args(&["A=x,y@1=z@api.example.com, example.org", "HERE@api.example.com:443"]);
        let (secrets, _) = collected(&args).expect("valid");
        let shown: Vec<_> = secrets
            .iter()
            .map(|secret| {
                let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
                (secret.name.to_string(), hosts.join(" "))
            })
            .collect();
        let expected = [("A", "api.example.com example.org"), ("HERE", "api.example.com:443")];
        assert_eq!(shown, expected.map(|(name, hosts)| (name.to_owned(), hosts.to_owned())));
        for (_, placeholder) in secrets.env() {
            assert!(placeholder.as_str().starts_with("SANDBOX_SECRET_"));
        }
    }

    #[test]
    fn messages_name_the_secret_and_never_its_value() {
        let value = |rest: &str| format!("A={CANARY}{rest}");
        let cases = [
            (value(""), "invalid secret \"A=…\": expected NAME=VALUE@host1,host2"),
            (value("@"), "invalid secret \"A=…\": no hosts given"),
            (value("@a b"), "invalid secret \"A=…\": host number 1 is not valid"),
            // The value holds an `@` and the hosts were forgotten.
            (format!("A=x@ {CANARY} y"), "invalid secret \"A=…\": host number 1"),
            (CANARY.to_owned(), "invalid secret \"…\": expected NAME=VALUE@host1,host2"),
            ("ABSENT@example.com".into(), "invalid secret \"ABSENT@example.com\": environment"),
            ("1A@example.com".into(), "invalid secret \"1A@example.com\": the name must"),
        ];
        for (text, expected) in cases {
            let message = refused(&args(&[&text]));
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(refused(&args(&["ABSENT@example.com"])).contains("sudo -E"));
        let twice = [value("@example.com"), value("@example.org")];
        let message = refused(&args(&[&twice[0], &twice[1]]));
        assert!(message.contains("two secrets of this name"), "{message}");
    }

    #[test]
    fn started_again_secrets_have_new_values_and_their_old_placeholders() {
        let mut args = args(&["HERE@api.example.com", "A=x,y@a.example.com"]);
        args.secret_placeholder = vec!["A=sk-placeholder-of-mine".into()];
        args.secret_scrub = vec!["HERE".into()];
        let (secrets, _) = collected(&args).expect("valid");
        let rules = matchlock_core::SecretValues::from(secrets).rules();
        let lookup = |name: &str| Some(format!("another value of {name}"));
        let renewed = again(&rules, &lookup).expect("valid");
        assert_eq!(matchlock_core::SecretValues::from(renewed).rules(), rules);
        let error = again(&rules, &here).expect_err("A is missing");
        assert_eq!(error.message(), "environment variable is not set $A");
    }

    #[test]
    fn files_placeholders_and_options() {
        let mut file = tempfile::NamedTempFile::new().expect("tempfile");
        let json = format!(
            r#"{{"GH_TOKEN": {{"value": "{CANARY}", "placeholder": "gho_sandbox_placeholder",
                 "hosts": ["github.com", "api.github.com"], "scrub": true}}}}"#
        );
        write!(file, "{json}").expect("write");
        let mut args = args(&["HERE@api.example.com"]);
        args.secret_file = vec![file.path().into()];
        args.secret_placeholder = vec!["HERE=sk-placeholder-of-mine".into()];
        args.secret_body = vec!["HERE,GH_TOKEN".into()];
        args.secret_https_only = vec!["GH_TOKEN".into()];
        let (secrets, warnings) = collected(&args).expect("valid");
        assert_eq!(warnings, Vec::<String>::new(), "mode 0600");
        let shown: Vec<_> = secrets
            .iter()
            .map(|s| (s.name.as_str(), s.placeholder.as_str(), s.body, s.https_only, s.scrub))
            .collect();
        assert_eq!(
            shown,
            [
                ("HERE", "sk-placeholder-of-mine", true, false, false),
                ("GH_TOKEN", "gho_sandbox_placeholder", true, true, true),
            ]
        );
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), mode).expect("chmod");
        let (_, warnings) = collected(&args).expect("valid");
        assert!(warnings[0].contains("chmod 600"), "{warnings:?}");
        args.secret_scrub = vec!["OTHER".into()];
        let expected = "--secret-scrub OTHER: there is no secret of this name";
        assert_eq!(refused(&args), expected);
        args.secret_scrub.clear();
        args.secret_placeholder = vec!["OTHER=sk-placeholder-of-mine".into()];
        assert!(refused(&args).starts_with("invalid secret placeholder: "));
    }

    #[test]
    fn a_bad_file_is_named_and_nothing_of_it_is_shown() {
        for content in [
            format!(r#"{{"A": "{CANARY}"}}"#),
            format!(r#"{{"A": {{"value": "{CANARY}", "hosts": "x"}}}}"#),
            format!(r#"{{"A": {{"value": "{CANARY}", "hosts": []}}}}"#),
            format!(r#"{{"A": {{"value": "{CANARY}", "hosts": ["a b"]}}}}"#),
            format!(r#"{{"A": {{"value": "{CANARY}", "hosts": ["x"], "{CANARY}": 1}}}}"#),
            CANARY.to_owned(),
        ] {
            let mut file = tempfile::NamedTempFile::new().expect("tempfile");
            write!(file, "{content}").expect("write");
            let args = NetworkArgs { secret_file: vec![file.path().into()], ..args(&[]) };
            let message = refused(&args);
            assert!(message.starts_with(&file.path().display().to_string()), "{message}");
        }
        let args = NetworkArgs { secret_file: vec!["/nonexistent".into()], ..args(&[]) };
        assert!(refused(&args).starts_with("cannot read secret file /nonexistent: "));
    }

    #[test]
    fn arguments_that_are_shown_for_debugging_hold_no_value() {
        let args = args(&[&format!("A={CANARY}@example.com")]);
        assert!(!format!("{args:?}").contains(CANARY));
        let (secrets, _) = collected(&args).expect("valid");
        assert!(!format!("{secrets:?}").contains(CANARY));
    }
}
