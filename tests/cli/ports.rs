//! Published ports.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use matchlock_testkit::{Lab, PATIENCE, ReservedPort, wait_until};

/// Answers each connection with what it got, in upper case, once that has ended.
const SERVER: &str = "
import socket
server = socket.create_server(('127.0.0.1', 8000))
print('listening', flush=True)
for _ in range(2):
    peer, _ = server.accept()
    data = b''
    while chunk := peer.recv(65536):
        data += chunk
    peer.sendall(data.upper())
    peer.close()
";

fn exchange(port: u16, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(data)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_published_port_reaches_the_loopback_of_the_sandbox_without_a_network() {
    let lab = Lab::new();
    let port = ReservedPort::new();
    let free = port.number().get();
    let forward = format!("{free}:8000");
    let flags = ["--no-network", "-p", &forward];
    let mut running = lab.run(&flags, &["python3", "-c", SERVER]).spawn();
    running.wait_for("listening", PATIENCE);
    let data = vec![b'x'; 1 << 20];
    let answer = exchange(free, &data).expect("exchange");
    assert!(answer == vec![b'X'; 1 << 20], "{} bytes", answer.len());
    assert_eq!(exchange(free, b"once more").expect("exchange"), b"ONCE MORE");
    let finished = running.finish(PATIENCE).expect(0);
    let said = format!("Forwarding 127.0.0.1:{free} -> sandbox:8000\n");
    assert!(finished.err().contains(&said), "{}", finished.err());
    wait_until("a closed port", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", free)).is_err().then_some(())
    });
}
