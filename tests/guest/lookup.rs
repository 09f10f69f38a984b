//! How the program of an argument vector is found.

use matchlock_core::{ExecFailure, ExitStatus};

use crate::lab::{Lab, spec};
use crate::run::{argv, sh};

cases![
    a_program_is_found_by_path_by_relative_path_and_in_the_given_search_path,
    a_program_that_is_not_there_is_not_found,
    a_file_that_is_no_program_is_not_executable,
    a_script_without_an_interpreter_line_runs_in_the_shell,
    arguments_are_passed_on_byte_for_byte,
    no_argument_at_all_is_a_bad_request,
    a_guest_without_a_shell_runs_programs,
];

async fn a_program_is_found_by_path_by_relative_path_and_in_the_given_search_path(lab: &Lab) {
    let sandbox = lab.plain().await;
    sh("mkdir -p /tmp/lookup/bin; printf '#!/bin/sh\necho found $0' >/tmp/lookup/bin/ml-found
        chmod +x /tmp/lookup/bin/ml-found")
    .text(sandbox)
    .await;
    let path = "PATH";
    let found = argv(["ml-found"]);
    let in_tmp = |program: &str| argv([program]).dir("/tmp/lookup");
    let cases = [
        (argv(["/tmp/lookup/bin/ml-found"]), "found /tmp/lookup/bin/ml-found"),
        (in_tmp("bin/ml-found"), "found bin/ml-found"),
        (in_tmp("./bin/ml-found"), "found ./bin/ml-found"),
        (found.clone().var(path, "/tmp/lookup/bin"), "found /tmp/lookup/bin/ml-found"),
        (
            found.clone().var(path, "/none:/etc/passwd:/tmp/lookup/bin"),
            "found /tmp/lookup/bin/ml-found",
        ),
        // A directory of the name is passed over as long as a program follows.
        (found.var(path, "").dir("/tmp/lookup/bin"), "found ./ml-found"),
    ];
    for (program, expected) in cases {
        assert_eq!(program.clone().text(sandbox).await, expected, "{program:?}");
    }
}

async fn a_program_that_is_not_there_is_not_found(lab: &Lab) {
    let sandbox = lab.plain().await;
    let programs = [
        argv(["ml-no-such-program"]),
        argv(["/usr/bin/ml-no-such-program"]),
        argv(["/etc/passwd/below"]),
        argv(["./true"]).dir("/tmp"),
        argv(["true"]).var("PATH", "/none"),
        argv([""]),
    ];
    for program in programs {
        let failure = program.clone().refusal(sandbox).await;
        assert!(matches!(failure, ExecFailure::NotFound(_)), "{program:?}: {failure:?}");
    }
}

async fn a_file_that_is_no_program_is_not_executable(lab: &Lab) {
    let sandbox = lab.plain().await;
    sh("printf '#!/no/such/interpreter' >/tmp/no-interpreter; chmod +x /tmp/no-interpreter
        printf '\\177ELF broken' >/tmp/broken-elf; chmod +x /tmp/broken-elf
        install -m 0700 /bin/true /tmp/for-root")
    .text(sandbox)
    .await;
    let programs = [
        argv(["/etc"]),
        argv(["/etc/passwd"]),
        argv(["passwd"]).var("PATH", "/none:/etc"),
        argv(["/tmp/no-interpreter"]),
        argv(["/tmp/for-root"]).user("nobody"),
    ];
    for program in programs {
        let failure = program.clone().refusal(sandbox).await;
        assert!(matches!(failure, ExecFailure::NotExecutable(_)), "{program:?}: {failure:?}");
    }
    let first_is_no_program = argv(["true"]).var("PATH", "/etc:/none:/usr/bin");
    assert_eq!(first_is_no_program.status(sandbox).await, ExitStatus::Code(0));
}

async fn a_script_without_an_interpreter_line_runs_in_the_shell(lab: &Lab) {
    let sandbox = lab.plain().await;
    sh("echo 'echo script $1; exit 3' >/tmp/bare-script; chmod +x /tmp/bare-script")
        .text(sandbox)
        .await;
    let ended = argv(["/tmp/bare-script", "an argument"]).on(sandbox).await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(3), "script an argument\n"));
}

async fn arguments_are_passed_on_byte_for_byte(lab: &Lab) {
    let every_byte: Vec<u8> = (1..=u8::MAX).collect();
    let arguments: [&[u8]; 7] =
        [b"a b", b"", b"one\ntwo", b"$HOME `id` \"q\" 'q'", b"\xff\xfe", &every_byte, b"-n"];
    let format: [&[u8]; 2] = [b"/usr/bin/printf", b"%s\\0"];
    let ended = argv(format.iter().chain(&arguments)).on(lab.plain().await).await;
    let seen: Vec<&[u8]> = ended.stdout.split(|&byte| byte == 0).collect();
    assert_eq!(seen.split_last(), Some((&&b""[..], &arguments[..])));
}

async fn no_argument_at_all_is_a_bad_request(lab: &Lab) {
    let sandbox = lab.plain().await;
    for arguments in [vec![], vec!["echo", "zero\0byte"]] {
        let failure = argv(arguments).refusal(sandbox).await;
        assert!(matches!(failure, ExecFailure::BadRequest(_)), "{failure:?}");
    }
}

async fn a_guest_without_a_shell_runs_programs(lab: &Lab) {
    let sandbox = lab.own(spec().into()).await.expect("a sandbox");
    argv(["rm", "/usr/bin/sh", "/usr/bin/dash", "/usr/bin/bash"]).text(&sandbox).await;
    let failure = sh("echo").refusal(&sandbox).await;
    assert!(matches!(failure, ExecFailure::NotFound(_)), "{failure:?}");
    assert_eq!(argv(["/usr/bin/true"]).status(&sandbox).await, ExitStatus::Code(0));
    assert_eq!(argv(["echo", "a", "b"]).text(&sandbox).await, "a b");
    assert_eq!(argv(["cat"]).input("through").text(&sandbox).await, "through");
    sandbox.end().await;
}
