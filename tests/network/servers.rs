//! Servers of other kinds than the web server of a [`NetLab`](crate::lab::NetLab).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use matchlock_testkit::{PATIENCE, wait_until};

/// The interpreter that has the modules of the distribution.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A program outside of the sandboxes, which ends with the value.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Runs a Python program until it says `ready`.
    pub(crate) fn python(text: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(PYTHON);
        let program = Self::start(command.args(["-c", text]).args(arguments));
        program.wait_for("ready");
        program
    }

    /// Runs a program.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, lines }
    }

    /// The lines that it wrote so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(&format!("{text:?} of a server"), PATIENCE, || {
            self.said().iter().any(|line| line.contains(text)).then_some(())
        });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves every connection to an address on a thread of its own, until the process ends.
pub(crate) fn listen(
    address: SocketAddr,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads the head of an HTTP request.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A web server that answers every request with `body`.
pub(crate) fn answer_all(address: SocketAddr, body: &'static str) -> SocketAddr {
    listen(address, move |mut stream| {
        read_head(&mut stream);
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n");
        drop(stream.write_all(format!("{head}\r\n{body}").as_bytes()));
    })
}
