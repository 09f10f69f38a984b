//! The grammar.

use super::network::SecretText;
use super::*;
use crate::options::time_span::TimeSpan;

fn run(args: &[&str]) -> Result<RunArgs, String> {
    let all = ["matchlock", "run"].iter().chain(args).map(OsString::from);
    match parse(all) {
        Ok(Parsed::Run(Cli { command: Some(Command::Run(args)), .. })) => Ok(*args),
        Ok(_) => Err("another command".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn words(args: &RunArgs) -> &[OsString] {
    &args.command.command
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn short_flags_bundle() {
    let args = run(&["--image", "host", "-it", "-w", "/tmp", "sh"]).expect("valid");
    assert!(args.interactive && args.tty);
    assert_eq!(words(&args), ["sh"]);
    assert_eq!(args.workdir, Some("/tmp".into()));
    let args = run(&["-ti", "--", "sh", "-c", "x"]).expect("valid");
    assert!(args.interactive && args.tty);
    assert_eq!(words(&args), ["sh", "-c", "x"]);
}

#[test]
fn our_options_end_at_the_first_word_of_the_command() {
    let cases: [&[&str]; 8] = [
        &["grep", "-i", "x", "f"],
        &["sort", "-u", "f"],
        &["python3", "-u", "agent.py", "--json"],
        &["curl", "-p", "80", "x"],
        &["sh", "-c", "true", "--", "-it"],
        &["prog", "--allow-host", "*", "--disk=@d:/d", "--privileged"],
        &["prog", "--no-such", "-Z", "--", "--"],
        &["prog", "--help", "--version"],
    ];
    for case in cases {
        for divider in [&[][..], &["--"]] {
            let given = [&["--image", "host"], divider, case].concat();
            let args = run(&given).expect("valid");
            assert_eq!(words(&args), case);
            assert!(
                !args.interactive
                    && !args.tty
                    && !args.confinement.privileged
                    && args.user.is_none()
            );
            assert!(args.network.allow_host.is_empty() && args.publish.publish.is_empty());
            assert!(args.disk.is_empty() && args.json.is_none());
        }
    }
    let args = run(&["--image=host", "--", "-x", "-i"]).expect("valid");
    assert_eq!(words(&args), ["-x", "-i"], "after -- even the first word may look like an option");
    assert!(!args.interactive);
}

#[test]
fn an_unknown_option_before_the_command_is_an_error() {
    assert_eq!(run(&["--no-such", "grep"]).expect_err("unknown"), "unknown flag: --no-such");
    assert_eq!(run(&["-Z", "grep"]).expect_err("unknown"), "unknown flag: -Z");
    let all = ["matchlock", "run", "--allow-hosts", "x", "true"].map(OsString::from);
    let Err(error) = parse(all) else { panic!("an error") };
    assert_eq!(error.hint(), Some("did you mean --allow-host?"));
}

/// `exec`, which comes later: an id, then a command.
#[derive(Debug, Parser)]
struct Exec {
    #[arg(short)]
    interactive: bool,
    #[arg(short)]
    user: Option<String>,
    id: String,
    #[command(flatten)]
    command: CommandArgs,
}

#[test]
fn after_an_id_our_options_end_at_the_first_word_of_the_command() {
    let parse = |args: &[&str]| {
        Exec::try_parse_from(["exec"].iter().chain(args)).map_err(|error| error.kind())
    };
    let args = parse(&["vm-1", "-i", "-u", "web", "grep", "-i", "x"]).expect("valid");
    assert_eq!(
        (args.id.as_str(), args.interactive, args.user.as_deref()),
        ("vm-1", true, Some("web"))
    );
    assert_eq!(args.command.command, ["grep", "-i", "x"]);
    let args = parse(&["-i", "vm-1", "--", "-x", "-u"]).expect("valid");
    assert!(args.interactive && args.user.is_none());
    assert_eq!(args.command.command, ["-x", "-u"]);
    assert!(parse(&["vm-1"]).expect("valid").command.command.is_empty());
    assert_eq!(parse(&["vm-1", "-Z", "x"]).expect_err("unknown"), ErrorKind::UnknownArgument);
}

#[test]
fn booleans_take_an_optional_value() {
    assert!(run(&["x"]).expect("valid").rm);
    assert!(!run(&["--rm=false", "x"]).expect("valid").rm);
    assert!(run(&["--rm", "x"]).expect("valid").rm);
    assert!(run(&["--privileged", "x"]).expect("valid").confinement.privileged);
    assert!(!run(&["-i=false", "x"]).expect("valid").interactive);
    assert!(run(&["--rm=maybe", "x"]).is_err());
}

#[test]
fn errors_are_one_line_and_name_the_flag() {
    assert_eq!(run(&["--no-such"]).expect_err("unknown"), "unknown flag: --no-such");
    let cases = [
        ("--memory", "2q", "use a number of MB, or a unit: 512m, 2g"),
        ("--disk-size", "-1", "use a number of MB, or a unit: 512m, 2g"),
        ("--cpus", "many", "use a number of CPUs, such as 2 or 0.5"),
        ("--mtu", "big", "use a number of bytes, such as 1500"),
        ("--timeout", "soon", "use a number of seconds, or units: 500ms, 30s, 5m, 1h30m"),
        ("--graceful-shutdown", "-5", "use a number of seconds, or units: 500ms, 30s, 5m, 1h30m"),
    ];
    for (flag, value, usage) in cases {
        let error = run(&[flag, value, "x"]).expect_err("not a number");
        assert_eq!(error, format!("invalid {flag} {value:?}: {usage}"));
    }
    let error = run(&["--rm=maybe", "x"]).expect_err("neither true nor false");
    assert_eq!(error, "invalid --rm \"maybe\": use true or false");
    let error = run(&["--memory"]).expect_err("no value");
    assert_eq!(error, "flag needs an argument: --memory");
}

#[test]
fn the_value_of_allow_private_is_optional_and_never_the_command() {
    let args = run(&["--allow-private", "10.0.0.0/8", "x"]).expect("valid");
    assert_eq!(args.network.allow_private, [""]);
    assert_eq!(words(&args), ["10.0.0.0/8", "x"]);
    let args = run(&["--allow-private=10.0.0.0/8,::1", "--allow-private", "x"]);
    assert_eq!(args.expect("valid").network.allow_private, ["10.0.0.0/8,::1", ""]);
    assert!(run(&["x"]).expect("valid").network.allow_private.is_empty());
}

#[test]
fn a_secret_is_one_value_and_is_not_shown() {
    let args = run(&["--secret", "A=x,y@h1,h2", "--secret=B@h", "x"]).expect("valid");
    let texts: Vec<&str> = args.network.secret.iter().map(SecretText::expose).collect();
    assert_eq!(texts, ["A=x,y@h1,h2", "B@h"]);
    assert!(!format!("{args:?}").contains("x,y"));
}

#[test]
fn ports_and_numbers_of_the_network() {
    let args = run(&["-p", "8080:80", "-p9000", "--mtu", "-1", "x"]).expect("valid");
    assert_eq!(args.publish.publish, ["8080:80", "9000"]);
    assert_eq!(args.network.mtu, -1);
    assert!(run(&["--no-network", "x"]).expect("valid").network.no_network);
    assert!(!run(&["--no-network=false", "x"]).expect("valid").network.no_network);
}

#[test]
fn cpus_that_are_no_number_of_them_reach_the_check_that_names_them() {
    assert!(run(&["--cpus", "NaN", "x"]).expect("parses").cpus.is_some_and(f64::is_nan));
    assert_eq!(run(&["--cpus", "-1", "x"]).expect("parses").cpus, Some(-1.0));
}

#[test]
fn sizes_and_times_take_units() {
    let args = run(&["--memory", "2g", "--disk-size=512m", "--timeout", "5m", "--mtu", "9k", "x"]);
    let args = args.expect("valid");
    assert_eq!((args.memory.0, args.disk_size.0, args.network.mtu), (2048, 512, 9216));
    let minutes = std::time::Duration::from_secs(300);
    assert_eq!(args.timeout.map(TimeSpan::duration), Some(minutes));
    let args = run(&["x"]).expect("valid");
    assert_eq!((args.memory.0, args.disk_size.0), (512, 2048));
    assert_eq!((args.timeout, args.pull_timeout), (None, None), "no limit unless asked");
}
