//! Lines on standard input, as the Go SDK writes them, and the ends that a client can bring about.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use matchlock_testkit::{Lab, PATIENCE, binary, wait_until};
use serde_json::{Value, json};

struct Rpc {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Rpc {
    fn start(lab: &Lab) -> Self {
        let mut child = Command::new(binary())
            .args(["rpc", "--max-memory", "1g"])
            .env("HOME", lab.home())
            .env("MATCHLOCK_ACCEL", "tcg")
            .env("all_proxy", format!("http://127.0.0.1:{}", upstream()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        Self { child, input, output }
    }

    fn with_sandbox(lab: &Lab) -> Self {
        let mut rpc = Self::start(lab);
        // The order of the keys, the `null` and the zeros are Go's.
        rpc.send(concat!(
            r#"{"jsonrpc":"2.0","method":"create","params":{"image":"host","network":{"allowed_hosts":["hook.example.com"],"#,
            r#""add_hosts":null,"block_private_ips":true,"interception":{"callback_socket":"/nobody/listens","#,
            r#""rules":[{"callback_id":"network_hook_1","phase":"before","on_error":"block"}]}},"resources":{"cpus":1,"#,
            r#""disk_size_mb":5120,"memory_mb":512,"timeout_seconds":300}},"id":1}"#
        ));
        let created = rpc.answer(1).1;
        assert!(created["result"]["id"].is_string(), "{created}");
        rpc
    }

    fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open");
        input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).expect("sent");
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        let output = self.output.as_mut().expect("open");
        assert_ne!(output.read_line(&mut line).expect("read"), 0, "the end of its output");
        serde_json::from_str(&line).expect("JSON")
    }

    fn answer(&mut self, id: u64) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message["id"] == json!(id) {
                return (before, message);
            }
            before.push(message);
        }
    }

    fn ended(&mut self) -> Option<i32> {
        wait_until("its end", PATIENCE, || self.child.try_wait().expect("waited")).code()
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn lines_of_the_go_sdk_are_answered() {
    let lab = Lab::new();
    let mut rpc = Rpc::with_sandbox(&lab);
    rpc.send(r#"{"jsonrpc":"2.0","method":"exec_pipe","params":{"command":"cat; exit 6"},"id":2}"#);
    assert_eq!(rpc.next()["method"], "exec_pipe.ready");
    rpc.send(r#"{"jsonrpc":"2.0","method":"exec_pipe.stdin","params":{"data":"aGkK","id":2}}"#);
    rpc.send(r#"{"jsonrpc":"2.0","method":"exec_pipe.stdin_eof","params":{"id":2}}"#);
    let (output, ended) = rpc.answer(2);
    assert_eq!(output[0]["params"], json!({"id": 2, "data": "aGkK"}));
    assert_eq!(ended["result"]["exit_code"], json!(6));
    rpc.send(r#"{"jsonrpc":"2.0","method":"log","id":3}"#);
    assert!(rpc.answer(3).1["result"]["content"].is_string());
    let add = r#"{"jsonrpc":"2.0","method":"allow_list_add","params":{"hosts":["a.example.com"," b.example.com"]},"id":4}"#;
    rpc.send(add);
    let hosts = json!(["a.example.com", "b.example.com"]);
    let allowed = json!(["hook.example.com", "a.example.com", "b.example.com"]);
    let expected = json!({"added": hosts, "allowed_hosts": allowed});
    assert_eq!(rpc.answer(4).1["result"], expected);
    rpc.send(r#"{"jsonrpc":"2.0","method":"allow_list_delete","params":{"hosts":["a.example.com","x"]},"id":5}"#);
    let allowed = json!(["hook.example.com", "b.example.com"]);
    let expected = json!({"removed": ["a.example.com"], "allowed_hosts": allowed});
    assert_eq!(rpc.answer(5).1["result"], expected);
    exchanges_are_told(&mut rpc);
    rpc.send("not JSON");
    assert_eq!(rpc.next()["error"]["code"], json!(-32700));
    rpc.send("");
    rpc.send(r#"{"jsonrpc":"2.0","method":"close","params":{"timeout_seconds":2},"id":7}"#);
    assert_eq!(rpc.answer(7).1["result"], json!({}));
    rpc.input = None;
    assert_eq!(rpc.ended(), Some(0));
}

/// A request that a hook should have seen, and a name that is not allowed.
fn exchanges_are_told(rpc: &mut Rpc) {
    let commands = "curl -s -m 60 -w '%{http_code}' -o /dev/null http://hook.example.com/path; \
                    curl -s -m 60 http://other.example.org/";
    let exec =
        json!({"jsonrpc": "2.0", "method": "exec", "id": 6, "params": {"command": commands}});
    rpc.send(&exec.to_string());
    let (mut told, mut ran) = (Vec::new(), None);
    while ran.is_none() || told.len() < 2 {
        match rpc.next() {
            event if event["method"] == "event" => {
                let network = &event["params"]["network"];
                // Names are asked for in both families.
                if !told.contains(network) {
                    told.push(network.clone());
                }
            }
            answer => ran = Some(answer),
        }
    }
    // "403" in Base64: the hook's failure blocks.
    assert_eq!(ran.expect("an answer")["result"]["stdout"], "NDAz");
    let of = |host: &str| told.iter().find(|told| told["host"] == host).expect("told");
    let blocked = of("hook.example.com");
    assert_eq!((&blocked["method"], &blocked["blocked"]), (&json!("GET"), &json!(true)));
    assert_eq!(blocked["url"], "http://hook.example.com/path");
    assert_eq!(blocked["status_code"], 403);
    assert_eq!(of("other.example.org")["blocked"], true);
}

/// The port of a proxy that says to reach every server, and never gets a request for one.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let _ = reader.read_line(&mut line);
            });
        }
    });
    port
}

#[test]
fn what_is_beyond_a_bound_is_refused_and_the_next_line_is_read() {
    let lab = Lab::new();
    let mut rpc = Rpc::start(&lab);
    let long = "x".repeat((64 << 20) + 100);
    rpc.send(&format!(
        r#"{{"jsonrpc":"2.0","method":"write_file","id":1,"params":{{"path":"{long}"}}}}"#
    ));
    assert_eq!(rpc.answer(1).1["error"]["code"], json!(-32600));
    rpc.send(r#"{"jsonrpc":"2.0","method":"exec","params":{"command":"true"},"id":2}"#);
    assert_eq!(rpc.answer(2).1["error"]["message"], "VM not created");
    let more = json!({"image": "host", "resources": {"memory_mb": 1025}});
    rpc.send(&json!({"jsonrpc": "2.0", "id": 3, "method": "create", "params": more}).to_string());
    let refused = rpc.answer(3).1["error"].clone();
    assert_eq!(
        (&refused["code"], &refused["data"]["field"]),
        (&json!(-32602), &json!("resources.memory_mb"))
    );
    rpc.input = None;
    assert_eq!(rpc.ended(), Some(0));
}

#[test]
fn the_end_of_its_input_or_of_its_output_ends_everything() {
    let lab = Lab::new();
    let mut rpc = Rpc::with_sandbox(&lab);
    rpc.send(
        r#"{"jsonrpc":"2.0","method":"exec_stream","params":{"command":"sleep 1000"},"id":2}"#,
    );
    rpc.input = None;
    assert_eq!(rpc.answer(2).1["error"]["code"], json!(-32003));
    assert_eq!(rpc.ended(), Some(0));
    assert!(lab.leaks().is_empty(), "{:?}", lab.leaks());

    let mut rpc = Rpc::with_sandbox(&lab);
    rpc.send(r#"{"jsonrpc":"2.0","method":"exec_stream","params":{"command":"while :; do echo x; sleep 0.1; done"},"id":2}"#);
    rpc.next();
    // The reader goes.
    rpc.output = None;
    assert_eq!(rpc.ended(), Some(141));
}

#[test]
fn a_signal_ends_everything() {
    let lab = Lab::new();
    for (signal, status) in
        [(rustix::process::Signal::TERM, 143), (rustix::process::Signal::INT, 130)]
    {
        let mut rpc = Rpc::with_sandbox(&lab);
        rpc.send(
            r#"{"jsonrpc":"2.0","method":"exec_pipe","params":{"command":"sleep 1000"},"id":2}"#,
        );
        assert_eq!(rpc.next()["method"], "exec_pipe.ready");
        let pid = rustix::process::Pid::from_child(&rpc.child);
        rustix::process::kill_process(pid, signal).expect("sent");
        assert_eq!(rpc.answer(2).1["error"]["code"], json!(-32003));
        assert_eq!(rpc.ended(), Some(status));
        assert!(lab.leaks().is_empty(), "{:?}", lab.leaks());
    }
}
