//! `exec`, `port-forward` and `allow-list`: a sandbox that runs is entered by others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use matchlock_testkit::{Finished, Lab, PATIENCE, Pty, ReservedPort, Running, wait_until};
use rustix::process::Signal;

use crate::support::{completions, sandboxes};

/// A sandbox that waits, and its id.
fn start(lab: &Lab, flags: &[&str]) -> (Running, String) {
    let flags: Vec<_> = ["--rm=false"].iter().chain(flags).copied().collect();
    let running = lab.run(&flags, &[]).spawn();
    let id = wait_until("a sandbox that can be entered", PATIENCE, || {
        let id = sandboxes(lab).pop()?;
        let entered = lab.matchlock(&["exec", &id, "true"]).finish();
        (entered.code() == 0).then_some(id)
    });
    (running, id)
}

fn exec(lab: &Lab, words: &[&str]) -> Finished {
    let words: Vec<_> = ["exec"].iter().chain(words).copied().collect();
    lab.matchlock(&words).finish()
}

#[test]
fn a_program_in_a_running_sandbox_is_as_one_here() {
    let lab = Lab::new();
    let (running, id) = start(&lab, &["-e", "KEPT=yes", "--workdir", "/tmp"]);

    let script = "echo out $KEPT $ADDED; echo err >&2; pwd; id -un; exit 7";
    let words = ["-e", "ADDED=too", "-w", "/usr", "-u", "nobody", &id, "--", "sh", "-c", script];
    let finished = exec(&lab, &words).expect(7);
    assert_eq!(finished.out(), "out yes too\n/usr\nnobody\n");
    assert_eq!(finished.err(), "err\n");

    // Options of ours end at the program's first word, and the beginning of an id will do.
    let short = id.strip_prefix("vm-").and_then(|digits| digits.get(..5)).expect("an id");
    assert_eq!(exec(&lab, &[short, "echo", "-i", "-t"]).expect(0).out(), "-i -t\n");

    // Input, to its end, without a loss.
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let copied = lab.matchlock(&["exec", "-i", &id, "cat"]).finish_with(input.clone()).expect(0);
    assert!(copied.stdout == input, "{} bytes", copied.stdout.len());
    let nothing = lab.matchlock(&["exec", &id, "cat"]).finish_with(b"not forwarded".to_vec());
    assert_eq!(nothing.expect(0).out(), "", "input only comes with -i");

    let missing = exec(&lab, &[&id, "no-such-program"]).expect(127);
    assert!(missing.err().contains("program not found in the guest"), "{}", missing.err());
    let killed = exec(&lab, &[&id, "sh", "-c", "kill -TERM $$"]).expect(143);
    assert_eq!(killed.out(), "");

    let none = exec(&lab, &[&id]).expect(125);
    assert!(none.err().contains("command required (or use -it for interactive mode)"));
    let unknown = exec(&lab, &["vm-none", "true"]).expect(125);
    assert!(unknown.err().contains("VM not found vm-none: VM vm-none not found"));
    let no_terminal = exec(&lab, &["-it", &id, "sh"]).expect(1);
    assert!(no_terminal.err().contains("-it requires a TTY"), "{}", no_terminal.err());

    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
    assert!(exec(&lab, &[&id, "true"]).code() == 125, "it is over");
}

#[test]
fn what_a_program_writes_comes_at_once_and_a_signal_ends_it() {
    let lab = Lab::new();
    let (running, id) = start(&lab, &[]);
    let script = "trap 'touch /tmp/ended; exit' TERM; echo begun; sleep 1000 & wait";
    let mut following = lab.matchlock(&["exec", &id, "sh", "-c", script]).spawn();
    following.wait_for("begun", PATIENCE);
    following.signal(Signal::INT);
    following.finish(PATIENCE).expect(130);
    wait_until("the end of the program", PATIENCE, || {
        (exec(&lab, &[&id, "test", "-e", "/tmp/ended"]).code() == 0).then_some(())
    });
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
}

#[test]
fn a_terminal_is_given_on_and_a_shell_needs_no_name() {
    let lab = Lab::new();
    let (running, id) = start(&lab, &[]);
    let mut pty = Pty::new(33, 101);
    let session = lab.matchlock(&["exec", "-it", &id]).env("TERM", "vt220").spawn_on(&pty);
    wait_until("raw mode", PATIENCE, || (!pty.is_cooked()).then_some(()));
    pty.send(b"echo $(stty size) $TERM; trap 'echo now $(stty size)' WINCH; echo $((6 * 7))-set\r");
    pty.wait_for("42-set", PATIENCE);
    assert!(pty.shown().contains("33 101 vt220"), "{}", pty.shown());
    pty.resize(50, 132);
    session.signal(Signal::WINCH);
    pty.send(b"\r");
    pty.wait_for("now 50 132", PATIENCE);
    pty.send(b"exit 5\r");
    session.finish(PATIENCE).expect(5);
    assert!(pty.is_cooked(), "the terminal is itself again");
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
}

#[test]
fn one_in_the_background_is_entered_and_stopped_by_its_name() {
    let lab = Lab::new();
    let script = "trap 'exit 5' TERM; touch /tmp/begun; sleep 1000 & wait";
    let flags = ["run", "--image", "host", "-dit", "--name", "web"];
    let words: Vec<_> = flags.iter().chain(&["sh", "-c", script]).copied().collect();
    let started = lab.matchlock(&words).finish().expect(0);
    let ids = sandboxes(&lab);
    assert_eq!(started.out(), format!("{}\n", ids.join("\n")), "its id and nothing else");
    assert_eq!(started.err(), "");
    wait_until("the command", PATIENCE, || {
        (exec(&lab, &["web", "test", "-e", "/tmp/begun"]).code() == 0).then_some(())
    });
    let listed = lab.matchlock(&["list"]).finish().expect(0).out();
    assert!(listed.contains("running") && listed.contains(&ids[0]), "{listed}");
    let offered = completions(&lab, &["matchlock", "stop", ""]);
    assert!(offered.contains(&"web".to_owned()) && offered.contains(&ids[0]), "{offered:?}");
    assert_eq!(completions(&lab, &["matchlock", "allow-list", "add", "w"]), ["web"]);
    let stopped = lab.matchlock(&["stop", "web"]).finish().expect(0);
    assert_eq!(stopped.out(), format!("Stopped {}\n", ids[0]));
    assert_eq!(lab.matchlock(&["wait", "web"]).finish().expect(0).out(), "5\n");
    lab.matchlock(&["rm", "web"]).finish().expect(0);

    let failed = lab.matchlock(&["run", "--image", "host", "-d", "no-such-program"]).finish();
    let failed = failed.expect(1);
    assert_eq!(failed.out(), "");
    assert!(failed.err().contains("program not found in the guest"), "{}", failed.err());
    lab.matchlock(&["prune"]).finish().expect(0);
    assert!(sandboxes(&lab).is_empty());
    let json = lab.matchlock(&["run", "--image", "host", "-d", "--json", "true"]).finish();
    assert!(json.expect(125).err().contains("--json cannot be combined with --detach"));
}

/// Answers each connection with what it got, in upper case, once that has ended.
const SERVER: &str = "
import socket
server = socket.create_server(('127.0.0.1', 8000))
print('listening', flush=True)
while True:
    peer, _ = server.accept()
    data = b''
    while chunk := peer.recv(65536):
        data += chunk
    peer.sendall(data.upper())
    peer.close()
";

#[test]
fn ports_and_hosts_of_a_running_sandbox_are_opened_from_elsewhere() {
    let lab = Lab::new();
    let (running, id) = start(&lab, &["--allow-host", "a.example.com"]);

    let mut serving = lab.matchlock(&["exec", &id, "python3", "-c", SERVER]).spawn();
    serving.wait_for("listening", PATIENCE);
    let port = ReservedPort::new();
    let free = port.number().get();
    let (open, closed) = (format!("{free}:8000"), "1:1");
    let forwarding = lab.matchlock(&["port-forward", &id, &open]).spawn();
    let mut stream = wait_until("a port that listens", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", free)).ok()
    });
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    stream.write_all(&vec![b'x'; 1 << 20]).expect("write");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    assert!(answer == vec![b'X'; 1 << 20], "{} bytes", answer.len());
    let taken = lab.matchlock(&["port-forward", &id, &open, closed]).finish().expect(1);
    assert!(taken.err().contains(&free.to_string()), "{}", taken.err());
    forwarding.signal(Signal::INT);
    let forwarded = forwarding.finish(PATIENCE).expect(0);
    let said = format!("Forwarding 127.0.0.1:{free} -> sandbox:8000\n");
    assert_eq!(forwarded.err(), said);
    serving.signal(Signal::INT);
    serving.finish(PATIENCE).expect(130);

    let list = |words: &[&str]| {
        let words: Vec<_> = ["allow-list"].iter().chain(words).copied().collect();
        lab.matchlock(&words).finish()
    };
    assert_eq!(list(&["ls", &id]).expect(0).out(), "a.example.com\n");
    let added = list(&["add", &id, "b.example.com, a.example.com", "c.example.com"]).expect(0);
    let lines = format!(
        "Added to {id}: b.example.com,c.example.com\n\
         Current allow-list: a.example.com,b.example.com,c.example.com\n"
    );
    assert_eq!(added.out(), lines);
    let removed = list(&["delete", &id, "a.example.com,c.example.com"]).expect(0);
    let lines = format!(
        "Removed from {id}: a.example.com,c.example.com\nCurrent allow-list: b.example.com\n"
    );
    assert_eq!(removed.out(), lines);
    let json = list(&["ls", &id, "--json"]).expect(0);
    assert_eq!(json.out(), format!("{{\"id\":\"{id}\",\"allowed_hosts\":[\"b.example.com\"]}}\n"));
    let empty = list(&["add", &id, ","]).expect(1);
    assert!(empty.err().contains("expected one or more hosts (comma-separated)"));
    let wrong = list(&["add", &id, "http://x"]).expect(1);
    assert!(wrong.err().contains("http://x"), "{}", wrong.err());

    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
}

#[test]
fn a_sandbox_without_a_network_has_no_list() {
    let lab = Lab::new();
    let (running, id) = start(&lab, &["--no-network"]);
    for words in [&["add", &id, "a.example.com"][..], &["delete", &id, "a"], &["ls", &id]] {
        let words: Vec<_> = ["allow-list"].iter().chain(words).copied().collect();
        let refused = lab.matchlock(&words).finish().expect(1);
        assert!(refused.err().contains("allow-list updates unavailable"), "{}", refused.err());
    }
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
}
