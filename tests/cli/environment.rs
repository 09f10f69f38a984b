//! The program's environment is what was asked for and nothing else.

use std::fs;

use matchlock_testkit::Lab;

use crate::support::sh;

#[test]
fn flags_win_over_files_and_nothing_of_the_host_leaks() {
    let lab = Lab::new();
    let first = lab.home().join("first.env");
    let second = lab.home().join("second.env");
    fs::write(&first, "# comment\n\nA=first\nB=first\nC=first\n").expect("write");
    fs::write(&second, "B=second\nC=second\nCOPIED_BY_FILE\n").expect("write");
    let [first, second] = [first, second].map(|path| path.display().to_string());
    let flags = [
        ["-e", "C=flag"],
        ["--env-file", &first],
        ["-e", "D=earlier"],
        ["--env-file", &second],
        ["-e", "D=later, with = and $HOME"],
        ["-e", "COPIED"],
        ["-e", "EMPTY="],
        ["-u", "4242"],
    ];
    // With a network come the variables that name its certificate authority.
    let flags = [flags.as_flattened(), &["--no-network"]].concat();
    // What `execve` got: a shell would add variables of its own.
    let finished = sh(&lab, &flags, "id -u; id -g; exec cat /proc/self/environ")
        .env("COPIED", "from the host")
        .env("COPIED_BY_FILE", "from the host, by file")
        .env("SECRET", "not asked for")
        .finish()
        .expect(0);
    let out = finished.out();
    let ids: Vec<&str> = out.lines().take(2).collect();
    assert_eq!(ids, ["4242", "4242"], "a bare uid is its own group");
    let environment = out.split_once("4242\n4242\n").expect("ids").1;
    let mut variables: Vec<&str> = environment.split_terminator('\0').collect();
    variables.retain(|variable| !variable.starts_with("PWD=") && !variable.starts_with("OLDPWD="));
    variables.sort_unstable();
    let expected = [
        "A=first",
        "B=second",
        "C=flag",
        "COPIED=from the host",
        "COPIED_BY_FILE=from the host, by file",
        "D=later, with = and $HOME",
        "EMPTY=",
        "HOME=/",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    assert_eq!(variables, expected);
}

#[test]
fn a_working_directory_that_is_missing_is_an_error_that_names_it() {
    let lab = Lab::new();
    let finished = lab.run(&["-w", "/no/such/directory"], &["true"]).finish().expect(125);
    let err = finished.err();
    assert_eq!(err.lines().filter(|line| line.starts_with("Error: ")).count(), 1, "{err}");
    assert!(err.contains("/no/such/directory"), "{err}");
}

#[test]
fn directory_host_name_and_entrypoint_are_as_asked() {
    let lab = Lab::new();
    let args = ["-w", "/usr/share", "--hostname", "box.example", "--entrypoint", "/bin/sh"];
    let script = "pwd; uname -n; cat /etc/hostname; head -n1 /etc/hosts; echo $0 $*";
    let finished = lab.run(&args, &["-c", script, "zero", "one"]).finish().expect(0);
    assert_eq!(
        finished.out(),
        "/usr/share\nbox.example\nbox.example\n\
         127.0.0.1 localhost localhost.localdomain box.example\nzero one\n"
    );
}
