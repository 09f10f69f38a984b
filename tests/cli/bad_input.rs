//! Bad input: one line that says what is wrong, a hint where one is promised, and nothing made.

use std::fs;
use std::path::{Path, PathBuf};

use matchlock_testkit::{Invocation, Lab, repository, write_program};

/// Runs it and checks the refusal: `says` is in the error, `hint` in the hint. The status of a run is
/// not one that its program could have, but for the one that programs look for.
#[track_caller]
fn assert_refused(lab: &Lab, invocation: Invocation, says: &str, hint: &str) {
    let is_run = invocation.arguments().first().is_some_and(|word| word == "run");
    let status = if is_run && !says.starts_with("-it requires") { 125 } else { 1 };
    let shown = format!("{:?}", invocation.arguments());
    let finished = invocation.finish();
    let err = finished.err();
    assert_eq!(finished.code(), status, "{shown}: {err}");
    assert_eq!(finished.out(), "", "{shown}");
    let lines: Vec<&str> = err.lines().collect();
    let (error, rest) = lines.split_first().unwrap_or_else(|| panic!("{shown}: no message"));
    assert!(error.starts_with("Error: ") && error.contains(says), "{shown}: {err}");
    assert!(!err.chars().any(|c| c.is_control() && c != '\n'), "{shown}: {err:?}");
    match *rest {
        [] => assert_eq!(hint, "", "{shown}: a hint is promised: {err}"),
        [line] => {
            assert!(line.starts_with("  hint: ") && line.contains(hint), "{shown}: {err}");
        }
        _ => panic!("{shown}: more than an error and a hint: {err}"),
    }
    assert_eq!(lab.leaks(), Vec::<String>::new(), "{shown}");
}

#[test]
fn arguments() {
    let lab = Lab::new();
    let cases: [(&[&str], &str, &str); 12] = [
        (&["frobnicate"], "unknown command \"frobnicate\" for \"matchlock\"", "--help"),
        (&["run", "--no-such", "--", "true"], "unknown flag: --no-such", "--help"),
        (&["run", "--", "true"], "required flag(s) \"image\" not set", "MATCHLOCK_RUN_IMAGE"),
        (&["run", "--image", "", "--", "true"], "required flag(s) \"image\" not set", "host"),
        (&["run", "--image", "a b", "--", "true"], "invalid image reference \"a b\"", "host"),
        (&["run", "--image", "host"], "command required (or use --rm=false", "COMMAND"),
        (&["run", "--image", "host", "-it", "--", "sh"], "-it requires a TTY", "-i"),
        (&["run", "--image", "host", "--memory"], "flag needs an argument: --memory", ""),
        (
            &["run", "--image", "host", "--memory", "-512"],
            "invalid --memory \"-512\": use ",
            "--help",
        ),
        (&["run", "--rm=maybe"], "invalid --rm \"maybe\": use true or false", ""),
        (&["run", "--no-such=\x1b[2J", "a\x1b[2J\nb"], "unknown flag: --no-such", ""),
        (&["completion", "tcsh"], "invalid SHELL \"tcsh\": use bash, ", ""),
    ];
    for (args, says, hint) in cases {
        assert_refused(&lab, lab.matchlock(args), says, hint);
    }
}

#[test]
fn values_of_flags() {
    let lab = Lab::new();
    let host_cpus = std::thread::available_parallelism().expect("cpus").get();
    let too_many = (host_cpus + 1).to_string();
    let too_many_says = format!("--cpus must be <= host cpus ({host_cpus})");
    let long = "x".repeat(64);
    let (finite, sizes) = ("--cpus must be a finite number > 0", "--disk-size must be from ");
    let cases = [
        ("--memory", "1", "--memory must be at least 64 MB, not 1", "MB"),
        ("--memory", "0", "--memory must be at least", "MB"),
        ("--memory", "-512", "invalid --memory \"-512\": use a number of MB, or a unit: ", ""),
        ("--memory", "2q", "invalid --memory \"2q\": use a number of MB, or a unit: ", ""),
        ("--memory", "1m", "--memory must be at least 64 MB, not 1", "MB"),
        ("--memory", "4000000000", "--memory must be <= host memory", ""),
        ("--memory", "lots", "invalid --memory \"lots\": use ", ""),
        ("--memory", "4000t", "--memory must be <= host memory", ""),
        ("--cpus", "0", finite, "0.5"),
        ("--cpus", "-1", finite, "0.5"),
        ("--cpus", "NaN", finite, "0.5"),
        ("--cpus", "inf", finite, "0.5"),
        ("--cpus", &too_many, &too_many_says, ""),
        ("--cpus", "many", "invalid --cpus \"many\": use a number of CPUs", ""),
        ("--disk-size", "0", sizes, ""),
        ("--disk-size", "-1", "invalid --disk-size \"-1\": use ", ""),
        ("--disk-size", "9000000000000000000", sizes, ""),
        ("--hostname", "two words", "invalid hostname \"two words\"", ""),
        ("--hostname", "-x", "invalid hostname \"-x\"", ""),
        ("--hostname", "a\ninit=/bin/sh", "invalid hostname \"a\\ninit=/bin/sh\"", ""),
        ("--hostname", &long, "invalid hostname \"xxx", ""),
        ("--env", "=value", "invalid environment variable: ", "KEY=VALUE"),
        ("--env", "", "invalid environment variable: ", "KEY=VALUE"),
        ("--env", "NOT_SET", "environment variable is not set $NOT_SET", "-e NOT_SET=VALUE"),
        ("--env-file", "/no/such/file", "cannot read env file /no/such/file: ", ""),
        ("--graceful-shutdown", "5x", "invalid --graceful-shutdown \"5x\": use ", ""),
        ("--graceful-shutdown", "-5s", "invalid --graceful-shutdown \"-5s\": use ", ""),
        ("--graceful-shutdown", "soon", "invalid --graceful-shutdown \"soon\": use ", ""),
        ("--timeout", "-1", "invalid --timeout \"-1\": use a number of seconds, or units: ", ""),
        (
            "--timeout",
            "soon",
            "invalid --timeout \"soon\": use a number of seconds, or units: ",
            "",
        ),
        ("--mtu", "0", "--mtu must be > 0", "1500"),
        ("--mtu", "big", "invalid --mtu \"big\": use a number of bytes", ""),
        ("--mtu", "-1", "--mtu must be > 0", "1500"),
        ("--mtu", "575", "--mtu must be from 576 to 65520, not 575", "1500"),
        ("--mtu", "65521", "--mtu must be from 576 to 65520, not 65521", "1500"),
        ("--allow-host", "two words", "invalid allowed host: \"two words\": ", ""),
        ("--allow-host", "\"a", "invalid allowed host: a quote is out of place", ""),
        ("--allow-private", "10.0.0.0/33", "invalid --allow-private \"10.0.0.0/33\": ", ""),
        ("--secret", "A=hidden", "invalid secret \"A=…\": expected NAME=VALUE@host", ""),
        ("--secret", "A=hidden@", "invalid secret \"A=…\": no hosts given", ""),
        ("--secret", "NOT_SET@a.example", "invalid secret \"NOT_SET@a.example\": ", ""),
        ("--secret-file", "/no/such/file", "cannot read secret file /no/such/file: ", ""),
        ("--secret-placeholder", "A=B", "invalid secret placeholder: ", "--secret NAME@HOST"),
        ("--secret-body", "A", "--secret-body A: there is no secret of this name", "--secret"),
        ("--dns-servers", "dns.example.com", "invalid DNS server: ", ""),
        ("--add-host", "name", "invalid add-host mapping: \"name\": expected host:ip", ""),
        ("--add-host", "a b:1.2.3.4", "invalid add-host mapping: ", ""),
        ("--publish", "0", "invalid port-forward specification: \"0\"", ""),
        ("--publish", "80:80:80", "invalid port-forward specification: ", ""),
        ("--address", "example.com", "invalid port-forward bind address: ", ""),
        ("--upstream-ca", "/no/such/file", "cannot read --upstream-ca /no/such/file: ", ""),
        ("--kernel", "6.1", "invalid kernel reference \"6.1\"", "file:///"),
        ("--kernel", "file://relative", "invalid kernel reference", "file:///"),
    ];
    for (flag, value, says, hint) in cases {
        // With `=`, so that a value may start with a hyphen.
        let given = format!("{flag}={value}");
        assert_refused(&lab, lab.run(&[&given], &["true"]), says, hint);
    }
}

#[test]
fn no_network_goes_with_nothing_that_opens_one() {
    let lab = Lab::new();
    let cases: [(&str, &[&str]); 5] = [
        ("allow-host", &["--allow-host", "a.example"]),
        ("secret", &["--secret", "A=b@a.example"]),
        ("network-intercept", &["--network-intercept"]),
        ("secret-file", &["--secret-file", "/no/such/file"]),
        ("allow-private", &["--allow-private"]),
    ];
    for (flag, flags) in cases {
        let flags: Vec<&str> = ["--no-network"].iter().chain(flags).copied().collect();
        let says = format!("--no-network cannot be combined with --{flag}");
        assert_refused(&lab, lab.run(&flags, &["true"]), &says, "--allow-host");
    }
}

#[test]
fn the_environment_of_the_network() {
    let lab = Lab::new();
    let run = || lab.run(&[], &["true"]);
    let says = "MATCHLOCK_DEFAULT_EGRESS: \"open\" is neither \"deny\" nor \"public\"";
    assert_refused(&lab, run().env("MATCHLOCK_DEFAULT_EGRESS", "open"), says, "");
    let proxy = run().env("HTTPS_PROXY", "socks5://user:hidden@proxy.example.com");
    assert_refused(&lab, proxy, "HTTPS_PROXY", "unset it");
    // The sandbox hears of no network, so the proxy does not matter.
    let unset = lab.run(&["--no-network", "--mtu", "0"], &["true"]).env("HTTPS_PROXY", "nonsense");
    assert_refused(&lab, unset, "--mtu must be > 0", "1500");
}

#[test]
fn ports_and_logs_that_cannot_be_had() {
    let lab = Lab::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("bound").port();
    let says = format!("start port-forward listener: 127.0.0.1:{port}: ");
    assert_refused(&lab, lab.run(&["-p", &format!("{port}:80")], &["true"]), &says, "");
    let log = lab.home().join("notes.txt");
    fs::write(&log, "my notes\n").expect("write");
    let path = log.display().to_string();
    let says = format!("the audit log {path} cannot be continued: line 1: ");
    assert_refused(&lab, lab.run(&["--audit-log", &path], &["true"]), &says, "audit verify");
    assert_eq!(fs::read_to_string(&log).expect("read"), "my notes\n");
}

#[test]
fn a_bad_line_of_an_env_file_is_named_by_its_number() {
    let lab = Lab::new();
    let file = lab.home().join("some.env");
    fs::write(&file, "# comment\nA=1\nNOT_SET\n").expect("write");
    let path = file.display().to_string();
    let says = format!("parse env file line {path}:3: environment variable is not set $NOT_SET");
    assert_refused(&lab, lab.run(&["--env-file", &path], &["true"]), &says, "NOT_SET");
}

/// A program in a directory of its own that answers `--version` like this, and else fails.
fn program(lab: &Lab, name: &str, version: &str) -> PathBuf {
    let dir = lab.home().join(name);
    fs::create_dir(&dir).expect("mkdir");
    let path = dir.join("qemu-system-x86_64");
    let script = format!(
        "#!/bin/sh\n\
         [ \"$1\" = --version ] && echo '{version}' && exit 0\n\
         echo 'no machine today' >&2; exit 1\n"
    );
    write_program(&path, &script);
    path
}

#[test]
fn a_qemu_that_is_missing_too_old_or_something_else() {
    let lab = Lab::new();
    let old = program(&lab, "old", "QEMU emulator version 6.2.0");
    let other = program(&lab, "other", "Other program 1.0");
    let failing = program(&lab, "failing", "QEMU emulator version 9.0.0");
    let text = lab.home().join("text");
    fs::write(&text, "not a program").expect("write");
    let run = || lab.run(&[], &["true"]);
    let install = "qemu-system-x86";
    assert_refused(&lab, run().env("PATH", lab.home()), "QEMU was not found", install);
    assert_refused(&lab, run().env_remove("PATH"), "QEMU was not found", install);
    let on_path = run().env("PATH", old.parent().expect("a directory"));
    assert_refused(&lab, on_path, "version 6.2, 7.2 or newer is needed", install);
    let cases: [(&Path, &str); 5] = [
        (&old, "version 6.2, 7.2 or newer is needed"),
        (&other, "is not QEMU: its --version says \"Other program 1.0\""),
        (Path::new("/no/such/qemu"), "cannot run QEMU at /no/such/qemu: "),
        (&text, "cannot run QEMU at "),
        (&failing, "no machine today"),
    ];
    for (qemu, says) in cases {
        let path = qemu.display().to_string();
        let hint = if qemu == failing { "diagnose" } else { "MATCHLOCK_QEMU" };
        let refused = run().env("MATCHLOCK_QEMU", &path);
        assert_refused(&lab, refused, says, hint);
    }
}

#[test]
fn a_kernel_that_is_corrupt_or_no_kernel() {
    let lab = Lab::new();
    let file = |name: &str, content: &[u8]| {
        let path = lab.home().join(name);
        fs::write(&path, content).expect("write");
        path
    };
    let packed = fs::read(repository().join("guest/kernel/vmlinux-x86_64.zst")).expect("read");
    let whole = zstd::decode_all(packed.as_slice()).expect("unpack");
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0);
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let cases = [
        (file("half", &half(&whole)), "damaged"),
        (file("header", &whole[..64]), "damaged"),
        (file("half.zst", &half(&packed)), "damaged"),
        (file("flipped.zst", &flipped), "damaged"),
        (file("garbage", &[0xa5; 4096]), "not an ELF vmlinux"),
        (file("text", b"a text that somebody saved as a kernel\n"), "not an ELF vmlinux"),
        (file("empty", b""), "not an ELF vmlinux"),
        (PathBuf::from("/bin/sh"), "no PVH entry"),
        (PathBuf::from("/no/such/kernel"), "No such file or directory"),
        (lab.home().to_owned(), "not a regular file"),
    ];
    for (path, says) in cases {
        let path = path.display().to_string();
        let by_flag = lab.run(&["--kernel", &format!("file://{path}")], &["true"]);
        assert_refused(&lab, by_flag, says, "MATCHLOCK_KERNEL");
        let by_variable = lab.run(&[], &["true"]).env("MATCHLOCK_KERNEL", &path);
        assert_refused(&lab, by_variable, &format!("guest kernel {path}: "), "MATCHLOCK_KERNEL");
    }
}

#[test]
fn environment() {
    let lab = Lab::new();
    let run = || lab.run(&[], &["true"]);
    let file = lab.home().join("file");
    fs::write(&file, "").expect("write");
    let says = "HOME is not set to an absolute path";
    assert_refused(&lab, run().env_remove("HOME"), says, "$HOME/.matchlock");
    assert_refused(&lab, run().env("HOME", ""), says, "$HOME/.matchlock");
    assert_refused(&lab, run().env("HOME", "relative"), says, "$HOME/.matchlock");
    // Not writable for anybody, root included: a file, and a file system without directories.
    for home in [&*file, Path::new("/proc")] {
        let path = home.join(".matchlock");
        let says = format!("cannot create {}", path.display());
        assert_refused(&lab, run().env("HOME", home), &says, "$HOME/.matchlock");
    }
    let says = "MATCHLOCK_ACCEL: unknown accelerator \"fast\"";
    assert_refused(&lab, run().env("MATCHLOCK_ACCEL", "fast"), says, "");
    let empty = lab.matchlock(&["run", "--", "true"]).env("MATCHLOCK_RUN_IMAGE", "");
    assert_refused(&lab, empty, "required flag(s) \"image\" not set", "MATCHLOCK_RUN_IMAGE");
}
