//! Executions on this machine, without a VM: everything behind the accepted connection is real.
//!
//! Needs root and cgroup2; the tests are skipped where it has not both.

#![cfg(target_os = "linux")]

mod files;
mod forwards;
mod support;

use std::path::PathBuf;

use matchlock_agent::server::MAX_SESSIONS;
use matchlock_proto::{
    AgentFrame, Confinement, ExecFailure, ExecRequest, ExitStatus, HostFrame, INITIAL_WINDOW,
    Level, MAX_DATA, Request, Stdin, StreamId, WindowSize,
};
use matchlock_testkit::wait_until;
use support::{Agent, TIMEOUT, argv, exited, serve, sh};

const TTY: Option<WindowSize> = Some(WindowSize { rows: 24, cols: 80 });

/// Something that one side waits for and the other lets happen: a file that is there.
struct Flag {
    directory: tempfile::TempDir,
}

impl Flag {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("raised")
    }

    fn raise(&self) {
        std::fs::write(self.path(), "").expect("written");
    }

    fn is_raised(&self) -> bool {
        self.path().exists()
    }

    fn wait(&self) {
        wait_until("the flag", TIMEOUT, || self.is_raised().then_some(()));
    }

    /// The same for a shell.
    fn raise_it(&self) -> String {
        format!(": > {}", self.path().display())
    }

    fn await_it(&self) -> String {
        format!("until test -e {}; do sleep 0.05; done", self.path().display())
    }
}

fn killed() -> AgentFrame {
    AgentFrame::Exited(ExitStatus::Signal(9))
}

/// Not a test: [`Agent`] runs it in a process of its own.
#[test]
fn the_server_process() {
    serve();
}

#[test]
fn an_argument_vector_runs_and_its_streams_are_apart() {
    let Some(agent) = Agent::start() else { return };
    assert_eq!(agent.exec(argv(&["echo", "a  b", "$HOME"])).text(), "a  b $HOME\n");
    let finished = agent.sh("echo out; echo err >&2; exit 3");
    assert_eq!(finished.stdout, b"out\n");
    assert_eq!(finished.stderr, b"err\n");
    assert_eq!(finished.end, exited(3));
}

#[test]
fn a_signal_is_reported_as_such() {
    let Some(agent) = Agent::start() else { return };
    let finished = agent.sh("kill -TERM $$");
    assert_eq!(finished.end, AgentFrame::Exited(ExitStatus::Signal(15)));
}

#[test]
fn what_cannot_be_executed_is_refused_for_its_reason() {
    let Some(agent) = Agent::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: &str| {
        let path = directory.path().join(name);
        let script = format!("printf '{text}' > {0} && chmod {mode} {0}", path.display());
        assert_eq!(agent.sh(&script).end, exited(0));
        path.to_str().expect("UTF-8").to_owned()
    };
    let refusal = |request: ExecRequest| match agent.exec(request).end {
        AgentFrame::Refused(failure) => failure,
        other => panic!("{other:?}"),
    };
    let plain = file("plain", "x", "644");
    let orphan = file("orphan", "#!/nonexistent\\n", "755");
    assert!(matches!(refusal(argv(&["no-such-program"])), ExecFailure::NotFound(_)));
    assert!(matches!(refusal(argv(&["/no/such/program"])), ExecFailure::NotFound(_)));
    assert!(matches!(refusal(argv(&[""])), ExecFailure::NotFound(_)));
    assert!(matches!(refusal(argv(&["/tmp"])), ExecFailure::NotExecutable(_)));
    assert!(matches!(refusal(argv(&[&plain])), ExecFailure::NotExecutable(_)));
    let ExecFailure::NotExecutable(why) = refusal(argv(&[&orphan])) else { panic!("{orphan}") };
    assert!(why.contains("interpreter"), "{why}");
    assert!(matches!(refusal(argv(&[])), ExecFailure::BadRequest(_)));
    let nowhere = ExecRequest { working_dir: Some(b"/nowhere".into()), ..argv(&["true"]) };
    assert!(matches!(refusal(nowhere), ExecFailure::WorkingDirectory(_)));
    let nobody = ExecRequest { user: Some("no-such-user".into()), ..argv(&["true"]) };
    assert!(matches!(refusal(nobody), ExecFailure::User(_)));
    agent.wait_until_empty();
}

#[test]
fn a_script_without_an_interpreter_line_runs_in_the_shell() {
    let Some(agent) = Agent::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("script");
    let make = format!("echo 'echo \"[$1]\"' > {0} && chmod 755 {0}", path.display());
    assert_eq!(agent.sh(&make).end, exited(0));
    let finished = agent.exec(argv(&[path.to_str().expect("UTF-8"), "x y"]));
    assert_eq!(finished.text(), "[x y]\n");
}

#[test]
fn environment_directory_and_user_are_as_asked() {
    let Some(agent) = Agent::start() else { return };
    let request = ExecRequest {
        env: vec![(b"MINE".into(), b"1".into()), (b"SANDBOX".into(), b"over".into())],
        working_dir: Some(b"/tmp".into()),
        ..sh("pwd; echo $SANDBOX $MINE $PATH; umask")
    };
    let expected = format!("/tmp\nover 1 {}\n0022\n", matchlock_proto::DEFAULT_PATH);
    assert_eq!(agent.exec(request).text(), expected);
    assert_eq!(agent.sh("pwd; echo $HOME; id -u").text(), "/\n/root\n0\n");
    let user = |user: &str| ExecRequest {
        user: Some(user.into()),
        ..sh("echo $(id -u) $(id -g) $(id -G) $HOME; grep CapEff /proc/self/status")
    };
    let none = "CapEff:\t0000000000000000\n";
    assert_eq!(agent.exec(user("12345")).text(), format!("12345 12345 12345 /\n{none}"));
    assert_eq!(agent.exec(user("12345:7")).text(), format!("12345 7 7 /\n{none}"));
    // What a user has is also his to open again.
    let reopen = ExecRequest { user: Some("12345".into()), ..sh("echo x > /dev/stdout") };
    assert_eq!(agent.exec(reopen).text(), "x\n");
}

#[test]
fn input_travels_with_back_pressure_and_ends() {
    let Some(agent) = Agent::start() else { return };
    let request = ExecRequest { stdin: Stdin::Pipe, ..argv(&["cat"]) };
    let mut client = agent.spawn(request);
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 253) as u8).collect();
    let (mut credit, mut sent, mut back) = (INITIAL_WINDOW as usize, 0, Vec::new());
    while back.len() < data.len() {
        let n = credit.min(MAX_DATA).min(data.len() - sent);
        if n > 0 {
            client.send(&HostFrame::Stdin(data[sent..sent + n].to_vec()));
            (sent, credit) = (sent + n, credit - n);
            if sent == data.len() {
                client.send(&HostFrame::StdinEof);
            }
            continue;
        }
        match client.next() {
            Some(AgentFrame::Credit(StreamId::Stdin, n)) => credit += n as usize,
            Some(AgentFrame::Stdout(piece)) => {
                client.send(&HostFrame::Credit(StreamId::Stdout, piece.len() as u32));
                back.extend(piece);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(back == data);
    assert_eq!(client.finish().end, exited(0));
}

#[test]
fn input_is_empty_unless_asked_for_and_dropped_when_nobody_reads() {
    let Some(agent) = Agent::start() else { return };
    assert_eq!(agent.exec(argv(&["cat"])).text(), "");
    let enough = Flag::new();
    let script = format!("exec <&-; echo closed; {}; echo end", enough.await_it());
    let mut client = agent.spawn(ExecRequest { stdin: Stdin::Pipe, ..sh(&script) });
    client.read_until("closed");
    let mut credit = 0;
    for _ in 0..INITIAL_WINDOW as usize / MAX_DATA {
        client.send(&HostFrame::Stdin(vec![0; MAX_DATA]));
    }
    while credit < INITIAL_WINDOW {
        match client.next() {
            Some(AgentFrame::Credit(StreamId::Stdin, n)) => credit += n,
            Some(AgentFrame::Stdout(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    enough.raise();
    assert_eq!(client.finish().end, exited(0));
}

#[test]
fn a_full_output_delays_no_other_stream_and_no_cancellation() {
    let Some(agent) = Agent::start() else { return };
    let (full, seen) = (Flag::new(), Flag::new());
    let (full_wait, seen_wait) = (full.await_it(), seen.await_it());
    let script = format!("yes & {full_wait}; echo one >&2; {seen_wait}; echo two >&2; wait");
    let mut client = agent.spawn(sh(&script));
    let (mut stdout, mut stderr) = (0, Vec::new());
    // The second line is written after the first has arrived: nothing beyond the credit came between.
    while !stderr.ends_with(b"two\n") {
        match client.next() {
            Some(AgentFrame::Stdout(data)) => stdout += data.len(),
            Some(AgentFrame::Stderr(data)) => stderr.extend(data),
            other => panic!("{other:?}"),
        }
        if stdout == INITIAL_WINDOW as usize {
            full.raise();
        }
        if !stderr.is_empty() {
            seen.raise();
        }
    }
    assert_eq!((stdout, &*stderr), (INITIAL_WINDOW as usize, &b"one\ntwo\n"[..]));
    drop(client);
    agent.wait_until_empty();
}

#[test]
fn all_output_arrives_before_the_end() {
    let Some(agent) = Agent::start() else { return };
    let finished = agent.sh("head -c 5000000 /dev/zero; echo last >&2");
    assert_eq!(finished.stdout.len(), 5_000_000);
    assert_eq!(finished.stderr, b"last\n");
    assert_eq!(finished.end, exited(0));
}

#[test]
fn closing_the_connection_ends_all_of_an_execution() {
    let Some(agent) = Agent::start() else { return };
    let told = Flag::new();
    let polite =
        format!("trap '{}; exit' TERM; echo ready; while :; do sleep 0.1; done", told.raise_it());
    for script in [
        "echo ready; exec sleep infinity",
        "echo ready; sleep infinity",
        "sleep infinity & setsid sleep infinity & echo ready; wait",
        &polite,
    ] {
        let mut client = agent.spawn(sh(script));
        client.read_until("ready");
        assert_eq!(agent.groups().len(), 1);
        drop(client);
        agent.wait_until_empty();
    }
    assert!(told.is_raised(), "it may end by itself first");
}

#[test]
fn a_program_that_ignores_the_signal_is_killed_after_the_grace() {
    let Some(agent) = Agent::start() else { return };
    let told = Flag::new();
    let script =
        format!("trap '{}' TERM; echo ready; while :; do sleep 0.1; done", told.raise_it());
    let mut client = agent.spawn(sh(&script));
    client.read_until("ready");
    drop(client);
    told.wait();
    assert_eq!(agent.groups().len(), 1, "it was asked, and it lives");
    agent.wait_until_empty();
}

#[test]
fn a_server_in_the_background_outlives_its_command() {
    let Some(agent) = Agent::start() else { return };
    let (go_on, written) = (Flag::new(), Flag::new());
    let (wait, done) = (go_on.await_it(), written.raise_it());
    let script = format!("({wait}; echo late; echo late; {done}) & echo started");
    assert_eq!(agent.sh(&script).text(), "started\n");
    assert_eq!(agent.groups().len(), 1, "it lives, and the end has not waited for it");
    go_on.raise();
    agent.wait_until_empty();
    assert!(written.is_raised(), "no SIGPIPE for what it writes");
}

#[test]
fn orphans_are_reaped_in_the_execution() {
    let Some(agent) = Agent::start() else { return };
    // A zombie can still be sent a signal.
    let script = "orphan=$(sh -c 'sleep 0.1 > /dev/null & echo $!')
        while kill -0 $orphan 2> /dev/null; do sleep 0.05; done";
    assert_eq!(agent.sh(script).text(), "");
}

#[test]
fn a_signal_of_the_host_goes_to_the_process_group() {
    let Some(agent) = Agent::start() else { return };
    let mut client = agent.spawn(sh("trap 'echo got; exit 7' USR1; echo ready; sleep 60 & wait"));
    client.read_until("ready");
    client.send(&HostFrame::Signal(10));
    let finished = client.finish();
    assert_eq!((&*finished.stdout, finished.end), (&b"got\n"[..], exited(7)));
}

#[test]
fn a_terminal_has_a_size_one_stream_and_an_end() {
    let Some(agent) = Agent::start() else { return };
    let request = ExecRequest {
        tty: TTY,
        ..sh(
            "stty size; test -t 0 -a -t 1 -a -t 2 && echo terminal; echo err >&2; tty; ps -o tty= $$",
        )
    };
    let text = agent.exec(request).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["24 80", "terminal", "err"], "{text}");
    assert!(lines[3].starts_with("/dev/pts/"), "{text}");
    assert_ne!(lines[4], "?", "it is the controlling terminal");
}

#[test]
fn a_terminal_is_resized_typed_at_and_closed_by_its_end_of_file() {
    let Some(agent) = Agent::start() else { return };
    let script =
        "stty -echo; echo ready; while read -r l; do echo \"[$l]\"; stty size; done; cat; echo bye";
    let mut client = agent.spawn(ExecRequest { tty: TTY, ..sh(script) });
    client.read_until("ready");
    client.send(&HostFrame::Stdin(b"one\n".into()));
    client.read_until("24 80");
    client.send(&HostFrame::Resize(WindowSize { rows: 50, cols: 132 }));
    client.send(&HostFrame::Stdin(b"two\n".into()));
    let seen = client.read_until("50 132");
    assert!(seen.contains("[two]"), "{seen}");
    client.send(&HostFrame::Stdin(vec![4]));
    client.send(&HostFrame::Stdin(b"unfinished".into()));
    client.send(&HostFrame::StdinEof);
    let text = client.finish().text();
    assert!(text.contains("unfinished") && text.contains("bye"), "{text}");
}

#[test]
fn closing_a_terminal_ends_everything_on_it() {
    let Some(agent) = Agent::start() else { return };
    for script in ["echo ready; sleep 60", "set -m; sleep 60 & echo ready; fg"] {
        let mut client = agent.spawn(ExecRequest { tty: TTY, ..sh(script) });
        client.read_until("ready");
        drop(client);
        agent.wait_until_empty();
    }
}

#[test]
fn output_of_a_terminal_is_whole_although_the_program_has_ended() {
    let Some(agent) = Agent::start() else { return };
    for _ in 0..20 {
        let request = ExecRequest { tty: TTY, ..sh("seq 1 3000; echo last") };
        let text = agent.exec(request).text();
        assert!(text.ends_with("3000\r\nlast\r\n"), "{:?}", &text[text.len().saturating_sub(40)..]);
        assert_eq!(text.lines().count(), 3001);
    }
}

#[test]
fn executions_see_neither_each_other_nor_the_agent() {
    let Some(agent) = Agent::start() else { return };
    let other = agent.spawn(argv(&["sleep", "1234"]));
    let text = agent
        .sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; echo $$; ls -l /proc/self/fd | wc -l")
        .text();
    assert!(!text.contains("1234"), "{text}");
    assert!(text.contains("\n2\n"), "the program is process 2: {text}");
    let fds = agent.sh("ls /proc/self/fd").text();
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is of ls");
    assert_eq!(agent.sh("cat /proc/1/mem /proc/1/environ").end, exited(1));
    assert_eq!(agent.sh("readlink /proc/1/fd/3 /proc/1/root /proc/1/exe").stdout, b"");
    assert_eq!(agent.sh("cat /proc/self/cgroup | grep ^0:").text(), "0::/\n");
    drop(other);
}

#[test]
fn an_execution_is_hardened_unless_privileged() {
    let status = "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2";
    let Some(agent) = Agent::start() else { return };
    let text = agent.sh(status).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, ["00000000a80425fb", "1", "2"]);
    assert_eq!(agent.sh("mount -t tmpfs none /mnt").end, exited(32));
    let privileged = Confinement {
        level: Level::Privileged,
        capabilities: u64::MAX,
        no_new_privs: false,
        seccomp: false,
    };
    let Some(agent) = Agent::start_with(|config| config.confinement = privileged) else {
        return;
    };
    let text = agent.sh(status).text();
    assert!(text.ends_with("\n0\n0\n"), "{text}");
    assert_eq!(agent.sh("mount -t tmpfs none /mnt && touch /mnt/x").end, exited(0));
    assert_eq!(agent.sh("test -e /mnt/x").end, exited(1), "mounts are of one execution");
}

#[test]
fn requests_have_an_order() {
    let Some(agent) = Agent::unbooted() else {
        return;
    };
    assert_eq!(agent.open(Request::Ping).finish().end, AgentFrame::Done);
    let early = agent.exec(argv(&["true"])).end;
    assert!(matches!(early, AgentFrame::Refused(ExecFailure::BadRequest(_))), "{early:?}");
    let Some(agent) = Agent::start() else { return };
    let mut client = agent.connect();
    client.send(&HostFrame::StdinEof);
    assert_eq!(client.next(), None, "a frame before the request");
    let mut client = agent.connect();
    client.send_raw(&[0xff; 16]);
    assert_eq!(client.next(), None, "no frame at all");
    let mut client = agent.spawn(argv(&["sleep", "60"]));
    client.send_raw(&[0xff; 16]);
    assert_eq!(client.next(), None);
    // A broken peer is a gone one.
    agent.wait_until_empty();
}

#[test]
fn input_beyond_the_credit_ends_the_execution() {
    let Some(agent) = Agent::start() else { return };
    let mut client = agent.spawn(ExecRequest { stdin: Stdin::Pipe, ..argv(&["sleep", "60"]) });
    for _ in 0..=(INITIAL_WINDOW as usize + 65536) / MAX_DATA {
        client.send(&HostFrame::Stdin(vec![0; MAX_DATA]));
    }
    while client.next().is_some() {}
    agent.wait_until_empty();
}

#[test]
fn shutdown_ends_everything_politely_first() {
    let Some(agent) = Agent::start() else { return };
    let mut polite = agent.spawn(sh("trap 'echo bye; exit 5' TERM; echo ready; sleep 60 & wait"));
    polite.read_until("ready");
    assert_eq!(agent.sh("sleep 60 & true").end, exited(0), "one in the background");
    let script = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done";
    let mut stubborn = agent.spawn(sh(script));
    stubborn.read_until("ready");
    let done = agent.open(Request::Shutdown { grace_ms: 500 });
    let late = agent.exec(argv(&["true"])).end;
    assert!(matches!(late, AgentFrame::Refused(ExecFailure::BadRequest(_))), "{late:?}");
    let finished = polite.finish();
    assert_eq!((&*finished.stdout, finished.end), (&b"bye\n"[..], exited(5)));
    let stubborn = stubborn.finish();
    assert_eq!((&*stubborn.stdout, stubborn.end), (&b"told\n"[..], killed()));
    assert_eq!(done.finish().end, AgentFrame::Done);
    assert!(agent.groups().is_empty());
}

#[test]
fn many_at_once_do_not_mix() {
    let Some(agent) = Agent::start() else { return };
    let clients: Vec<_> = (0..40)
        .map(|i| {
            agent.open(Request::Exec(sh(&format!("for n in 1 2 3; do echo {i}; done; exit {i}"))))
        })
        .collect();
    for (i, client) in clients.into_iter().enumerate() {
        let finished = client.finish();
        assert_eq!(String::from_utf8_lossy(&finished.stdout), format!("{i}\n{i}\n{i}\n"));
        assert_eq!(finished.end, exited(i as u8));
    }
    agent.wait_until_empty();
}

#[test]
fn nothing_is_left_of_executions_that_have_ended() {
    let Some(agent) = Agent::start() else { return };
    let Some(before) = agent.descriptors() else {
        return;
    };
    for i in 0..30 {
        let tty = if i % 2 == 0 { TTY } else { None };
        assert_eq!(agent.exec(ExecRequest { tty, ..argv(&["true"]) }).end, exited(0));
        drop(agent.spawn(ExecRequest { tty, stdin: Stdin::Pipe, ..argv(&["sleep", "60"]) }));
        let refused = agent.exec(argv(&["no-such-program"])).end;
        assert!(matches!(refused, AgentFrame::Refused(_)));
    }
    agent.wait_until_empty();
    // Connections may still be on their way to their end: the last one now, that of the boot before.
    agent.wait_for_descriptors(before);
}

#[test]
fn a_flood_of_connections_is_refused_and_passes() {
    let Some(agent) = Agent::start() else { return };
    let idle: Vec<_> = (0..MAX_SESSIONS).map(|_| agent.connect()).collect();
    let refused = agent.open(Request::Ping).finish().end;
    assert!(matches!(refused, AgentFrame::Refused(ExecFailure::BadRequest(_))), "{refused:?}");
    drop(idle);
    while agent.open(Request::Ping).finish().end != AgentFrame::Done {}
    assert_eq!(agent.exec(argv(&["true"])).end, exited(0));
}
