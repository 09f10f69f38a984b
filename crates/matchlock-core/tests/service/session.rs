//! Sessions: what runs at the same time, what is cancelled, what is left.

use std::path::Path;
use std::sync::mpsc as std_mpsc;

use matchlock_core::api::line::Line;
use matchlock_core::api::rpc::{ServerMessage, receive};
use matchlock_core::api::{Base64, ErrorCode, Notification, RpcError};
use matchlock_core::image::store::RootImage;
use matchlock_core::net::ProxySettings;
use matchlock_core::policy::DefaultEgress;
use matchlock_core::service::{Bounds, Pending, Service, Session, Sink, Surroundings};
use matchlock_core::vmm::Fake;
use matchlock_core::volume::Volumes;
use matchlock_core::{ExecRequest, ExitStatus, Hint, Launcher, StateRoot};
use matchlock_proto::{AgentFrame, HostFrame, INITIAL_WINDOW, Request, StreamId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Peer, launcher, left, report, serve};

#[derive(Debug)]
struct World {
    launcher: Launcher,
    cache: std::path::PathBuf,
}

impl Surroundings for World {
    fn launcher<'a>(&'a self, _kernel: Option<&'a str>) -> Pending<'a, Launcher> {
        Box::pin(async { Ok(self.launcher.clone()) })
    }

    fn root<'a>(&'a self, image: &'a str) -> Pending<'a, Option<Box<RootImage>>> {
        Box::pin(async move {
            // An image that never comes.
            if image == "slow" {
                std::future::pending::<()>().await;
            }
            Ok(None)
        })
    }

    fn network(&self) -> Result<(ProxySettings, DefaultEgress), RpcError> {
        Ok((ProxySettings::default(), DefaultEgress::Deny))
    }

    fn volumes(&self) -> Result<Volumes, RpcError> {
        Ok(Volumes::in_cache(&self.cache))
    }

    fn words(&self, hint: Hint) -> String {
        format!("{hint:?}")
    }
}

/// Messages to the client. With a bound, it is a client that does not read.
struct Pipe {
    messages: mpsc::Sender<Vec<u8>>,
    at_once: mpsc::UnboundedSender<Vec<u8>>,
}

impl Sink for Pipe {
    async fn notify(&self, notification: Notification) {
        drop(self.messages.send(notification.to_line()).await);
    }

    async fn answer(&self, message: Vec<u8>) {
        drop(self.messages.send(message).await);
    }

    async fn answer_at_once(&self, message: Vec<u8>) {
        drop(self.at_once.send(message));
    }
}

struct Client {
    session: Session<Pipe>,
    messages: mpsc::Receiver<Vec<u8>>,
    at_once: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Client {
    fn new(home: &Path, vmm: &Fake, bound: usize) -> Self {
        let world = World { launcher: launcher(home, vmm), cache: home.join("cache") };
        let (sender, messages) = mpsc::channel(bound);
        let (at_once_sender, at_once) = mpsc::unbounded_channel();
        let sink = Pipe { messages: sender, at_once: at_once_sender };
        let session = Session::new(Service::new(world, Bounds::default()), sink);
        Self { session, messages, at_once }
    }

    /// A client with a sandbox.
    async fn with_sandbox(home: &Path, vmm: &Fake) -> Self {
        let mut client = Self::new(home, vmm, 64);
        client.send(json!({"method":"create","id":1,"params":{"image":"host"}})).await;
        let created = client.next().await;
        assert!(created["result"]["id"].as_str().expect("an id").starts_with("vm-"), "{created}");
        client
    }

    async fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = json!("2.0");
        self.send_line(&message.to_string()).await;
    }

    async fn send_line(&mut self, line: &str) {
        let incoming = receive(Line::Whole(line.as_bytes()));
        self.session.receive(incoming, line.len(), |_, _| {}).await;
    }

    async fn next(&mut self) -> Value {
        let message = tokio::select! {
            message = self.messages.recv() => message,
            message = self.at_once.recv() => message,
        };
        let line = message.expect("a message");
        assert!(ServerMessage::parse(line.trim_ascii_end()).is_ok());
        serde_json::from_slice(&line).expect("JSON")
    }

    /// The answer to this request; messages before it are given, too.
    async fn answer(&mut self, id: u64) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message["id"] == json!(id) {
                return (before, message);
            }
            before.push(message);
        }
    }

    async fn call(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(json!({"method": method, "id": id, "params": params})).await;
        self.answer(id).await.1
    }

    async fn close(&mut self, id: u64) {
        let closed = self.call(id, "close", json!({"timeout_seconds": 2.0})).await;
        assert_eq!(closed["result"], json!({}));
    }
}

/// A guest whose programs are `exec`, and which obeys everything else.
fn guest(exec: impl Fn(String, ExecRequest, Peer) + Clone + Send + Sync + 'static) -> Fake {
    serve(move |request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Exec(request) => {
            let command = String::from_utf8(request.argv.last().cloned().unwrap_or_default());
            exec(command.expect("UTF-8"), request, peer);
        }
        _ => drop(peer.send(&AgentFrame::Done)),
    })
}

/// A guest with a few programs.
fn programs() -> Fake {
    guest(|command, request, mut peer| {
        peer.send(&AgentFrame::Started);
        match command.as_str() {
            "hang" => while peer.receive().is_some() {},
            "flood" => {
                for _ in 0..INITIAL_WINDOW / 1024 {
                    peer.send(&AgentFrame::Stdout(vec![b'x'; 1024]));
                }
                while peer.receive().is_some() {}
            }
            "cat" => cat(&mut peer),
            "count" => count(&mut peer),
            "argv" => {
                assert_eq!(request.argv[..2], [b"sh".to_vec(), b"-c".to_vec()]);
                peer.send(&AgentFrame::Stdout(b"out".to_vec()));
                peer.send(&AgentFrame::Stderr(b"err".to_vec()));
                peer.send(&AgentFrame::Exited(ExitStatus::Code(3)));
            }
            "killed" => {
                peer.send(&AgentFrame::Exited(ExitStatus::Signal(9)));
            }
            other => panic!("{other}"),
        }
    })
}

fn cat(peer: &mut Peer) {
    while let Some(frame) = peer.receive() {
        match frame {
            HostFrame::Stdin(data) => {
                peer.send(&AgentFrame::Credit(StreamId::Stdin, data.len() as u32));
                peer.send(&AgentFrame::Stdout(data));
            }
            HostFrame::StdinEof => break,
            HostFrame::Resize(size) => {
                peer.send(&AgentFrame::Stdout(format!("{}x{}", size.rows, size.cols).into()));
            }
            _ => {}
        }
    }
    peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
}

/// Reads its input to the end, and says how long it was.
fn count(peer: &mut Peer) {
    let mut bytes = 0;
    while let Some(HostFrame::Stdin(data)) = peer.receive() {
        bytes += data.len();
        peer.send(&AgentFrame::Credit(StreamId::Stdin, data.len() as u32));
    }
    peer.send(&AgentFrame::Stdout(bytes.to_string().into_bytes()));
    peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
}

/// How many sandboxes are listed.
fn remembered(home: &Path) -> usize {
    StateRoot::in_home(home).known().expect("a list").len()
}

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {answer}"))
}

#[tokio::test]
async fn commands_run_with_their_streams_and_results() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::with_sandbox(home.path(), &programs()).await;
    let ran = client.call(2, "exec", json!({"command":"argv"})).await;
    let result = &ran["result"];
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(3), &json!("b3V0")));
    assert_eq!(result["stderr"], json!("ZXJy"));
    assert!(result["duration_ms"].is_u64());
    client.send(json!({"method":"exec_stream","id":3,"params":{"command":"argv"}})).await;
    let (output, ended) = client.answer(3).await;
    let mut methods: Vec<_> = output.iter().map(|m| m["method"].as_str().expect("one")).collect();
    methods.sort_unstable();
    assert_eq!(methods, ["exec_stream.stderr", "exec_stream.stdout"]);
    assert!(output.iter().all(|message| message["params"]["id"] == json!(3)));
    assert_eq!(ended["result"]["exit_code"], json!(3));
    assert!(ended["result"].get("stdout").is_none());
    let killed = client.call(4, "exec", json!({"command":"killed"})).await;
    assert_eq!(killed["result"]["exit_code"], json!(137), "128 and the signal");
    client.close(5).await;
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn input_arrives_in_order_and_the_result_is_last() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::with_sandbox(home.path(), &programs()).await;
    client.send(json!({"method":"exec_pipe","id":2,"params":{"command":"cat"}})).await;
    assert_eq!(client.next().await["method"], "exec_pipe.ready");
    for (id, text) in [(None, "YQ=="), (Some(90), "Yg=="), (None, "*"), (None, "Yw==")] {
        // Go sends input without an id, Python with one; neither is answered, nor is what is malformed.
        let mut message = json!({"method":"exec_pipe.stdin","params":{"id":2,"data":text}});
        if let Some(id) = id {
            message["id"] = json!(id);
        }
        client.send(message).await;
    }
    // To another method, and to nobody: dropped.
    client.send(json!({"method":"exec_tty.stdin","params":{"id":2,"data":"eA=="}})).await;
    client.send(json!({"method":"exec_pipe.stdin","params":{"id":77,"data":"eA=="}})).await;
    client.send(json!({"method":"exec_pipe.stdin_eof","params":{"id":2}})).await;
    let (output, ended) = client.answer(2).await;
    let data = output.iter().map(|message| message["params"]["data"].as_str().expect("data"));
    let bytes: Vec<u8> = data.flat_map(|text| Base64::decode(text).expect("Base64").0).collect();
    assert_eq!(bytes, b"abc");
    assert_eq!(ended["result"]["exit_code"], json!(0));
    client.send(json!({"method":"exec_tty","id":3,"params":{"command":"cat","rows":9}})).await;
    assert_eq!(client.next().await["method"], "exec_tty.ready");
    client
        .send(json!({"method":"exec_tty.resize","id":91,"params":{"id":3,"rows":5,"cols":6}}))
        .await;
    let resized = client.next().await;
    assert_eq!(resized["method"], "exec_tty.stdout");
    assert_eq!(resized["params"]["data"], "NXg2", "5x6");
    client.send(json!({"method":"exec_tty.stdin_eof","params":{"id":3}})).await;
    assert_eq!(client.answer(3).await.1["result"]["exit_code"], json!(0));
    client.close(4).await;
}

#[tokio::test]
async fn a_command_that_reads_nothing_stalls_nobody_and_is_ended() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::with_sandbox(home.path(), &programs()).await;
    client.send(json!({"method":"exec_pipe","id":2,"params":{"command":"hang"}})).await;
    assert_eq!(client.next().await["method"], "exec_pipe.ready");
    let chunk = "AAAA".repeat(1 << 20);
    for _ in 0..8 {
        client.send(json!({"method":"exec_pipe.stdin","params":{"id":2,"data":chunk}})).await;
    }
    // Others run all the same.
    client.send(json!({"method":"exec","id":3,"params":{"command":"argv"}})).await;
    let mut ended = [client.next().await, client.next().await];
    ended.sort_by_key(|message| message["id"].as_u64());
    let [given_up, ran] = ended;
    assert_eq!(ran["result"]["exit_code"], json!(3), "{ran}");
    assert_eq!(code(&given_up), -32001, "{given_up}");
    assert!(given_up["error"]["message"].as_str().expect("a text").contains("does not read"));
    client.close(4).await;
}

#[tokio::test]
async fn cancel_ends_what_runs_and_says_whether_there_was_something() {
    let home = tempfile::tempdir().expect("tempdir");
    let (tell, gone) = std_mpsc::channel();
    let vmm = guest(move |_, _, mut peer| {
        peer.send(&AgentFrame::Started);
        while peer.receive().is_some() {}
        tell.send(()).expect("the test waits");
    });
    let mut client = Client::with_sandbox(home.path(), &vmm).await;
    for (id, method) in [(2, "exec"), (3, "exec_stream"), (4, "exec_pipe"), (5, "exec_tty")] {
        client.send(json!({"method":method,"id":id,"params":{"command":"hang"}})).await;
    }
    client.send(json!({"method":"log_stream","id":6})).await;
    for id in 2..=6 {
        let cancel = client.call(100 + id, "cancel", json!({"id": id})).await;
        assert_eq!(cancel["result"], json!({"cancelled": true}), "{id}");
        assert_eq!(code(&client.answer(id).await.1), -32003);
    }
    for unknown in [json!(2), json!(99), json!("x")] {
        let cancel = client.call(200, "cancel", json!({"id": unknown})).await;
        assert_eq!(cancel["result"], json!({"cancelled": false}));
    }
    client.close(201).await;
    // Those that had started were told to end by the end of their connections.
    drop(client);
    drop(vmm);
    while gone.recv_timeout(std::time::Duration::from_secs(1)).is_ok() {}
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_creation_that_is_cancelled_leaves_nothing_and_another_can_follow() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::new(home.path(), &programs(), 64);
    client.send(json!({"method":"create","id":1,"params":{"image":"slow"}})).await;
    assert_eq!(code(&client.call(2, "create", json!({"image":"host"})).await), -32000);
    assert_eq!(code(&client.call(3, "exec", json!({"command":"argv"})).await), -32000);
    client.send(json!({"method":"cancel","id":4,"params":{"id":1}})).await;
    assert_eq!(code(&client.answer(1).await.1), -32003);
    let created = client.call(5, "create", json!({"image":"host"})).await;
    assert!(created["result"]["id"].is_string(), "{created}");
    assert_eq!(code(&client.call(6, "create", json!({"image":"host"})).await), -32000);
    client.close(7).await;
    assert!(left(home.path()).is_empty());
    // While the guest boots, too.
    let silent = serve(|_, mut peer| while peer.receive().is_some() {});
    let mut client = Client::new(home.path(), &silent, 64);
    client.send(json!({"method":"create","id":1,"params":{"image":"host"}})).await;
    while silent.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    client.send(json!({"method":"cancel","id":2,"params":{"id":1}})).await;
    assert_eq!(code(&client.answer(1).await.1), -32003);
    assert!(left(home.path()).is_empty(), "it is answered when nothing is left");
    assert_eq!(remembered(home.path()), 1, "the one that was up");
}

#[tokio::test]
async fn close_cancels_what_runs_and_answers_and_the_log_stays() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::with_sandbox(home.path(), &programs()).await;
    for (id, method) in [(2, "exec"), (3, "exec_pipe")] {
        client.send(json!({"method":method,"id":id,"params":{"command":"hang"}})).await;
    }
    client.send(json!({"method":"log_stream","id":4})).await;
    client.send(json!({"method":"close","id":5,"params":{"timeout_seconds":2.0}})).await;
    let (before, closed) = client.answer(5).await;
    assert_eq!(closed["result"], json!({}));
    let ended = before.iter().filter(|message| message["error"]["code"] == json!(-32003)).count();
    assert_eq!(ended, 3, "{before:?}");
    assert!(left(home.path()).is_empty());
    let log = client.call(6, "log", json!({})).await;
    assert!(log["result"]["content"].is_string(), "{log}");
    for (id, method, params) in [
        (7, "exec", json!({"command":"argv"})),
        (8, "create", json!({"image":"host"})),
        (9, "read_file", json!({"path":"/x"})),
        (10, "port_forward", json!({"forwards":[]})),
    ] {
        assert_eq!(code(&client.call(id, method, params).await), -32000, "{method}");
    }
    client.close(11).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_can_cancel_and_close() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::new(home.path(), &programs(), 1);
    client.send(json!({"method":"create","id":1,"params":{"image":"host"}})).await;
    client.answer(1).await;
    client.send(json!({"method":"exec_stream","id":2,"params":{"command":"flood"}})).await;
    // One message is on its way, and nobody takes it.
    while client.messages.is_empty() {
        tokio::task::yield_now().await;
    }
    client.send(json!({"method":"cancel","id":3,"params":{"id":2}})).await;
    let cancelled = client.at_once.recv().await.expect("an answer");
    let cancelled: Value = serde_json::from_slice(&cancelled).expect("JSON");
    assert_eq!(cancelled["result"], json!({"cancelled": true}));
    client.send(json!({"method":"close","id":4})).await;
    while !left(home.path()).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer(4).await.1["result"], json!({}));
}

#[tokio::test]
async fn hostile_orders_of_messages_are_answered_or_dropped() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::new(home.path(), &programs(), 64);
    for (line, expected) in [
        ("{", -32700),
        ("[]", -32600),
        (r#"{"jsonrpc":"2.0","method":"exec_pipe","params":{"command":"x"}}"#, -32600),
        (r#"{"jsonrpc":"2.0","method":"nope","id":1}"#, -32601),
        (r#"{"jsonrpc":"2.0","method":"exec","id":1}"#, -32602),
        (r#"{"jsonrpc":"2.0","method":"exec","id":1,"params":{"command":"x"}}"#, -32000),
        (r#"{"jsonrpc":"2.0","method":"log","id":1}"#, -32000),
        (r#"{"jsonrpc":"2.0","method":"create","id":1,"params":{"image":""}}"#, -32602),
    ] {
        client.send_line(line).await;
        assert_eq!(code(&client.next().await), expected, "{line}");
    }
    client.send(json!({"method":"create","id":1,"params":{"image":"host"}})).await;
    client.answer(1).await;
    // An id that is in use; then input after the end, twice, and an end of something else.
    client.send(json!({"method":"exec_pipe","id":2,"params":{"command":"cat"}})).await;
    assert_eq!(client.next().await["method"], "exec_pipe.ready");
    client.send(json!({"method":"exec","id":2,"params":{"command":"argv"}})).await;
    assert_eq!(code(&client.next().await), -32600);
    for _ in 0..2 {
        client.send(json!({"method":"exec_pipe.stdin_eof","params":{"id":2}})).await;
        client.send(json!({"method":"exec_pipe.stdin","params":{"id":2,"data":"eA=="}})).await;
    }
    assert_eq!(client.answer(2).await.1["result"]["exit_code"], json!(0));
    client.send(json!({"method":"exec_pipe.stdin_eof","params":{"id":2}})).await;
    // Two ends at one time.
    client.send(json!({"method":"close","id":3})).await;
    client.send(json!({"method":"close","id":4})).await;
    client.session.end().await;
    let mut closed = [client.next().await, client.next().await].map(|m| m["id"].as_u64());
    closed.sort_unstable();
    assert_eq!(closed, [Some(3), Some(4)]);
}

#[tokio::test]
async fn what_runs_at_one_time_is_bounded() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::new(home.path(), &programs(), 4096);
    client.send(json!({"method":"create","id":1,"params":{"image":"slow"}})).await;
    // Nothing runs without an end but the creation, so these are answers that nobody reads.
    let mut refused = 0;
    for id in 2..2000 {
        client.send(json!({"method":"exec","id":id,"params":{"command":"argv"}})).await;
    }
    while let Ok(line) = client.at_once.try_recv() {
        let message: Value = serde_json::from_slice(&line).expect("JSON");
        assert!(message["error"]["message"].as_str().expect("a text").contains("too many"));
        refused += 1;
    }
    assert!(refused > 0, "a bound was reached");
    client.session.end().await;
}

#[tokio::test]
async fn the_end_of_a_client_ends_its_sandbox() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::with_sandbox(home.path(), &programs()).await;
    client.send(json!({"method":"exec_stream","id":2,"params":{"command":"hang"}})).await;
    client.session.end().await;
    assert!(left(home.path()).is_empty());
    assert_eq!(client.answer(2).await.1["error"]["code"], json!(ErrorCode::Cancelled.number()));
}

#[tokio::test]
async fn more_input_than_a_window_is_held_back_until_it_is_read() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut client = Client::with_sandbox(home.path(), &programs()).await;
    client.send(json!({"method":"exec_pipe","id":2,"params":{"command":"count"}})).await;
    assert_eq!(client.next().await["method"], "exec_pipe.ready");
    let chunk = "AAAA".repeat(INITIAL_WINDOW as usize);
    client.send(json!({"method":"exec_pipe.stdin","params":{"id":2,"data":chunk}})).await;
    client.send(json!({"method":"exec_pipe.stdin_eof","params":{"id":2}})).await;
    let (output, ended) = client.answer(2).await;
    let data = output[0]["params"]["data"].as_str().expect("data");
    let told = Base64::decode(data).expect("Base64").0;
    assert_eq!(told, (3 * INITIAL_WINDOW).to_string().into_bytes());
    assert_eq!(ended["result"]["exit_code"], json!(0));
    client.close(3).await;
}
