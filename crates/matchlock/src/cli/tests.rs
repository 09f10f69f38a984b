//! The grammar.

use super::network::SecretText;
use super::*;

fn run(args: &[&str]) -> Result<RunArgs, String> {
    let all = ["matchlock", "run"].iter().chain(args).map(OsString::from);
    match parse(all) {
        Ok(Parsed::Run(Cli { command: Some(Command::Run(args)), .. })) => Ok(*args),
        Ok(_) => Err("another command".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn short_flags_bundle_and_mix_with_positionals() {
    let args = run(&["--image", "host", "-it", "sh", "-w", "/tmp"]).expect("valid");
    assert!(args.interactive && args.tty);
    assert_eq!(args.command, ["sh"]);
    assert_eq!(args.workdir, Some("/tmp".into()));
    let args = run(&["-ti", "--", "sh", "-c", "x"]).expect("valid");
    assert!(args.interactive && args.tty);
    assert_eq!(args.command, ["sh", "-c", "x"]);
}

#[test]
fn booleans_take_an_optional_value() {
    assert!(run(&["x"]).expect("valid").rm);
    assert!(!run(&["--rm=false", "x"]).expect("valid").rm);
    assert!(run(&["--rm", "x"]).expect("valid").rm);
    assert!(run(&["--privileged", "x"]).expect("valid").privileged);
    assert!(!run(&["-i=false", "x"]).expect("valid").interactive);
    assert!(run(&["--rm=maybe", "x"]).is_err());
}

#[test]
fn errors_are_one_line_and_name_the_flag() {
    assert_eq!(run(&["--no-such"]).expect_err("unknown"), "unknown flag: --no-such");
    let error = run(&["--memory", "lots", "x"]).expect_err("not a number");
    assert!(error.starts_with("invalid argument \"lots\" for --memory"), "{error}");
    let error = run(&["--memory"]).expect_err("no value");
    assert!(error.starts_with("flag needs an argument: --memory"), "{error}");
}

#[test]
fn the_value_of_allow_private_is_optional_and_never_the_command() {
    let args = run(&["--allow-private", "10.0.0.0/8", "x"]).expect("valid");
    assert_eq!(args.network.allow_private, [""]);
    assert_eq!(args.command, ["10.0.0.0/8", "x"]);
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
fn numbers_that_are_no_numbers_reach_the_check_that_names_them() {
    assert!(run(&["--cpus", "NaN", "x"]).expect("parses").cpus.is_some_and(f64::is_nan));
    assert_eq!(run(&["--cpus", "-1", "x"]).expect("parses").cpus, Some(-1.0));
    assert_eq!(run(&["--memory", "-5", "x"]).expect("parses").memory, -5);
}
