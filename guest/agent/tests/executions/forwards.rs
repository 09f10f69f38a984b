//! TCP connections inside the guest: the namespaces of the tests share this machine's loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;

use matchlock_proto::{AgentFrame, ExecFailure, Request};

use crate::support::Agent;

fn forward(agent: &Agent, port: u16) -> UnixStream {
    let mut client = agent.open(Request::Forward { port });
    assert_eq!(client.next(), Some(AgentFrame::Started));
    client.into_raw()
}

fn listener(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).expect("bound");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).expect("read to the end");
    all
}

#[test]
fn bytes_flow_both_ways_and_each_end_is_passed_on_by_itself() {
    let Some(agent) = Agent::start() else { return };
    let (listener, port) = listener("127.0.0.1");
    let mut host = forward(&agent, port);
    let (mut program, _) = listener.accept().expect("connected");
    host.write_all(b"question").expect("sent");
    host.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(read_all(&program), b"question", "the program sees the end of input");
    program.write_all(b"answer after the end").expect("the other half is open");
    drop(program);
    assert_eq!(read_all(&host), b"answer after the end");
}

#[test]
fn more_than_all_buffers_hold_arrives_whole_in_both_directions() {
    const SIZE: usize = 8 << 20;
    let Some(agent) = Agent::start() else { return };
    let (listener, port) = listener("127.0.0.1");
    let host = forward(&agent, port);
    let (program, _) = listener.accept().expect("connected");
    let pattern = |i: usize| (i * 31 / 7) as u8;
    std::thread::scope(|scope| {
        for (mut to, end) in [
            (Box::new(host.try_clone().expect("cloned")) as Box<dyn Write + Send>, 0),
            (Box::new(program.try_clone().expect("cloned")), 1),
        ] {
            let (host, program) = (&host, &program);
            scope.spawn(move || {
                let bytes: Vec<u8> = (0..SIZE).map(pattern).collect();
                to.write_all(&bytes).expect("sent");
                match end {
                    0 => host.shutdown(Shutdown::Write),
                    _ => program.shutdown(Shutdown::Write),
                }
                .expect("half closed");
            });
        }
        for received in [scope.spawn(|| read_all(&host)), scope.spawn(|| read_all(&program))] {
            let received = received.join().expect("read");
            assert_eq!(received.len(), SIZE);
            assert!(received.iter().enumerate().all(|(i, &byte)| byte == pattern(i)));
        }
    });
}

#[test]
fn a_program_that_listens_on_ipv6_only_is_found() {
    let Some(agent) = Agent::start() else { return };
    let (listener, port) = listener("::1");
    let host = forward(&agent, port);
    let (program, _) = listener.accept().expect("connected");
    drop(host);
    assert_eq!(read_all(&program), b"");
}

#[test]
fn a_port_where_nobody_listens_is_refused_with_the_reason() {
    let Some(agent) = Agent::start() else { return };
    let (listener, port) = listener("127.0.0.1");
    drop(listener);
    let refused = agent.open(Request::Forward { port }).finish().end;
    let AgentFrame::Refused(ExecFailure::Port(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("refused"), "{why}");
    let refused = agent.open(Request::Forward { port: 0 }).finish().end;
    assert!(matches!(refused, AgentFrame::Refused(ExecFailure::BadRequest(_))), "{refused:?}");
}

#[test]
fn a_host_that_goes_ends_the_connection_and_nothing_is_left() {
    let Some(agent) = Agent::start() else { return };
    let before = agent.descriptors();
    let (listener, port) = listener("127.0.0.1");
    for _ in 0..32 {
        let host = forward(&agent, port);
        let (program, _) = listener.accept().expect("connected");
        drop(host);
        assert_eq!(read_all(&program), b"");
    }
    let mut unanswered = agent.open(Request::Ping);
    assert_eq!(unanswered.next(), Some(AgentFrame::Done));
    drop(unanswered);
    if let Some(before) = before {
        agent.wait_for_descriptors(before);
    }
}
