use super::super::instruction::{Copy, Mount, Run, RunCommand};
use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn read(text: &str) -> Result<Dockerfile, SyntaxError> {
    parse(&"Dockerfile".into(), text.as_bytes())
}

/// The one instruction behind `FROM a`.
fn one(text: &str) -> Instruction {
    let mut file = read(&format!("FROM a\n{text}")).expect(text);
    file.stages.pop().expect("a stage").steps.pop().expect("a step").instruction
}

/// The text of the error, with its cause.
fn error(text: &str) -> String {
    let error = read(text).expect_err(text);
    format!("{error}: {}", error.problem)
}

fn shell(text: &str) -> Command {
    Command::Shell(text.into())
}

fn exec(words: &[&str]) -> Command {
    Command::Exec(words.iter().map(|word| (*word).to_owned()).collect())
}

fn run(text: &str) -> Run {
    match one(text) {
        Instruction::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

fn copy(text: &str) -> Copy {
    match one(text) {
        Instruction::Copy(copy) => *copy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stages_have_names_and_places() {
    let file = read("ARG V=1 W\n\nFROM --platform=$P img:$V as Build\nRUN x\nFROM build\n")
        .expect("a file");
    assert_eq!(file.globals[0].1, [("V".into(), Some("1".into())), ("W".into(), None)]);
    let stage = &file.stages[0];
    assert_eq!(stage.name.as_deref(), Some("build"));
    assert_eq!((stage.from.as_str(), stage.platform.as_deref()), ("img:$V", Some("$P")));
    assert_eq!(stage.steps[0].at.to_string(), "Dockerfile:4: RUN x");
    assert_eq!(file.stages[1].at.line, 5);
}

#[test]
fn commands_are_for_the_shell_or_lists() {
    assert_eq!(one("CMD a  \"b\""), Instruction::Cmd(shell("a  \"b\"")));
    assert_eq!(one("CMD [\"a\", \"b c\"]"), Instruction::Cmd(exec(&["a", "b c"])));
    assert_eq!(one("CMD []"), Instruction::Cmd(exec(&[])));
    assert_eq!(one("ENTRYPOINT ['a']"), Instruction::Entrypoint(shell("['a']")));
    assert_eq!(one("cmd --flag"), Instruction::Cmd(shell("--flag")));
    assert_eq!(
        one("SHELL [\"/bin/bash\", \"-c\"]"),
        Instruction::Shell(vec!["/bin/bash".into(), "-c".into()])
    );
}

#[test]
fn pairs_have_two_forms() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        one("ENV a=b c=\"d e\" f=g\\ h"),
        Instruction::Env(vec![pair("a", "b"), pair("c", "\"d e\""), pair("f", "g\\ h")])
    );
    assert_eq!(one("ENV a the  rest=x"), Instruction::Env(vec![pair("a", "the  rest=x")]));
    assert_eq!(one("LABEL \"a.b\"=\"c\""), Instruction::Label(vec![pair("\"a.b\"", "\"c\"")]));
    assert!(error("FROM a\nENV a").starts_with("Dockerfile:2: ENV a: expected: ENV"));
    assert!(error("FROM a\nENV a=b c").contains("expected"));
}

#[test]
fn copies_have_sources_and_a_destination() {
    let found = copy("COPY --from=build --chown=a:b --chmod=755 --link a b* /c/");
    assert_eq!(
        (found.sources.as_slice(), found.destination.as_str()),
        (["a".into(), "b*".into()].as_slice(), "/c/")
    );
    assert_eq!(found.from.as_deref(), Some("build"));
    assert_eq!(found.chown.as_deref(), Some("a:b"));
    assert_eq!(found.chmod.as_deref(), Some("755"));
    assert_eq!(copy("ADD [\"a b\", \"/c\"]").sources, ["a b"]);
    let inline = copy("COPY <<A <<'B' x /d/\n$V\nA\n$V\nB");
    assert_eq!(inline.sources, ["x"]);
    assert_eq!(inline.inline.iter().map(|doc| doc.expand).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn runs_have_mounts_and_heredocs() {
    let found = run(
        "RUN --mount=type=cache,target=/c,mode=0700,uid=5 --mount=from=b,source=/x,dst=/y --network=none a && b",
    );
    assert_eq!(
        found.mounts,
        [
            Mount::Scratch { target: "/c".into(), mode: 0o700, uid: 5, gid: 0 },
            Mount::Bind { target: "/y".into(), source: "/x".into(), from: Some("b".into()) },
        ]
    );
    assert!(!found.network);
    assert_eq!(found.command, RunCommand::Command(shell("a && b")));
    let text = |text: &str| RunCommand::Command(shell(text));
    assert_eq!(run("RUN <<EOF\na\nb\nEOF").command, text("a\nb\n"));
    assert_eq!(run("RUN cat <<EOF >x\na\nEOF").command, text("cat <<EOF >x\na\nEOF\n"));
    assert_eq!(
        run("RUN <<EOF\n#!/usr/bin/python3\nEOF").command,
        RunCommand::Script("#!/usr/bin/python3\n".into())
    );
}

#[test]
fn a_health_check_has_times() {
    let Instruction::Healthcheck(Healthcheck::Test { command, interval, retries, .. }) =
        one("HEALTHCHECK --interval=1m30s --retries=3 CMD curl x")
    else {
        panic!("no check")
    };
    assert_eq!(
        (command, interval, retries),
        (shell("curl x"), Some(Duration::from_secs(90)), Some(3))
    );
    assert_eq!(one("HEALTHCHECK none"), Instruction::Healthcheck(Healthcheck::None));
}

#[test]
fn a_trigger_is_kept_as_text_and_read_again() {
    let Instruction::Onbuild(text) = one("ONBUILD RUN <<EOF\na\nEOF") else { panic!("no trigger") };
    let Ok(Instruction::Run(run)) = parse_trigger(&text) else { panic!("no RUN in {text:?}") };
    assert_eq!(run.command, RunCommand::Command(shell("a\n")));
    assert!(parse_trigger("FROM x").is_err());
    assert!(parse_trigger("RUN a\nRUN b").is_err());
}

#[test]
fn errors_name_their_line_and_what_is_wrong() {
    for (text, expected) in [
        ("", "Dockerfile:1: no FROM: there is nothing to build"),
        ("RUN x", "Dockerfile:1: RUN x: only ARG may stand before the first FROM"),
        ("FROM a\n\nFOO b", "Dockerfile:3: FOO b: unknown instruction \"FOO\""),
        ("FROM a\nRUN", "Dockerfile:2: RUN: an argument is missing"),
        ("FROM a AS", "Dockerfile:1: FROM a AS: expected: FROM"),
        ("FROM a AS 1", "Dockerfile:1: FROM a AS 1: not a name for a stage"),
        ("FROM a AS x\nFROM b AS X", "Dockerfile:2: FROM b AS X: the stage \"x\" is defined twice"),
        ("FROM a\nCOPY a", "Dockerfile:2: COPY a: expected: SOURCE"),
        ("FROM a\nCOPY --form=b a c", "unknown flag --form"),
        ("FROM a\nCOPY --from=$x a c", "--from: a variable"),
        ("FROM a\nADD --from=b a c", "unknown flag --from"),
        (
            "FROM a\nCOPY --parents a c",
            "--parents is not supported by the built-in builder; BuildKit can do it",
        ),
        (
            "FROM a\nRUN \\\n --mount=type=secret,id=x y",
            "Dockerfile:2: RUN --mount=type=secret,id=x y: --mount=type=secret is not",
        ),
        ("FROM a\nRUN --mount=type=cache x", "--mount: target= is missing"),
        ("FROM a\nRUN --network=host x", "--network=host is not supported"),
        ("FROM a\nRUN --security=insecure x", "--security=insecure is not"),
        ("FROM a\nONBUILD ONBUILD RUN x", "ONBUILD cannot be a trigger"),
        ("FROM a\nONBUILD FOO x", "unknown instruction"),
        ("FROM a\nSHELL bash", "expected: SHELL"),
        ("FROM a\nCMD [1]", "strings only"),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", "not a duration: \"5\""),
        ("FROM a\nHEALTHCHECK --timeout CMD x", "--timeout: a value is missing"),
        ("FROM a\nHEALTHCHECK x", "HEALTHCHECK NONE"),
        ("FROM a\nARG 1=2", "not a name of a variable: \"1\""),
        ("FROM a\nWORKDIR", "an argument is missing"),
        ("FROM a\nRUN a\0b", "a NUL character"),
    ] {
        let found = error(text);
        assert!(found.contains(expected), "{text:?}: {found}");
    }
}

#[test]
fn an_error_quotes_an_instruction_on_one_short_line() {
    let found = error(&format!("FROM a\nFOO \x1b[31m {}", "x".repeat(500)));
    assert!(!found.contains('\x1b') && found.len() < 200, "{found}");
}

#[test]
fn no_error_carries_what_a_terminal_obeys() {
    for text in [
        "FROM a\nRUN --\x1b[2J x",
        "FROM a\nRUN --\x1b]0;t\x07=1 x",
        "FROM a\nRUN --network=\x1b[2J x",
        "FROM a\nRUN --mount=type=\x1b x",
        "FROM a\nCOPY --\x1b=1 --\x1b=1 a b",
        "FROM \x1b AS \x1b",
        "FROM a\nONBUILD \x1b x",
        "# syntax=\x1b\nFROM a",
        "FROM a\nRUN <<\x1b",
    ] {
        let found = error(text);
        assert!(!found.contains(|c: char| c.is_control()), "{found:?}");
    }
    let required = Problem::Required { name: "A".into(), message: "\x1b[2J".into() };
    assert_eq!(required.to_string(), "A: \u{fffd}[2J");
}

fn line() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(vec![
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "LABEL",
        "HEALTHCHECK",
        "ONBUILD",
        "SHELL",
        "CMD",
        "VOLUME",
        "USER",
        "WORKDIR",
        "EXPOSE",
        "STOPSIGNAL",
        "# escape=`",
        "EOF",
        "",
    ]);
    (
        keyword,
        "( |--mount=|--from=|type=cache|,|<<EOF|\\\\|\"|'|\\[|\\]|a|\\$|\\{|\\}|=|CMD |AS ){0,12}",
    )
        .prop_map(|(keyword, rest)| format!("{keyword} {rest}"))
}

proptest! {
    #[test]
    fn no_file_panics_and_errors_are_within_it(lines in prop::collection::vec(line(), 0..12)) {
        if let Err(error) = read(&lines.join("\n")) {
            prop_assert!((1..=lines.len().max(1)).contains(&(error.at.line as usize)));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz::dockerfile(&bytes);
    }

    #[test]
    fn the_fuzz_targets_promises_hold(lines in prop::collection::vec(line(), 0..12)) {
        crate::fuzz::dockerfile(format!("FROM a\n{}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn a_broken_line_is_found_wherever_it_is(before in 0_usize..20, after in 0_usize..20) {
        let text = format!("FROM a\n{}BROKEN x\n{}", "RUN b \\\n # c\n d\n".repeat(before), "RUN e\n".repeat(after));
        prop_assert_eq!(read(&text).expect_err("broken").at.line as usize, 2 + 3 * before);
    }
}
