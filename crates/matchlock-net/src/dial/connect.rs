//! Checked addresses to a TCP stream: one after the other with a head start (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::ConnectError;

/// How long an attempt goes on alone (RFC 8305 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses that are tried.
const MAX_ATTEMPTS: usize = 8;
/// Idle time before the kernel looks whether the other side is still there, and between looks.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects to the first of `addresses` that answers. Without a bound of its own.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut waiting = interleave(addresses);
    let mut attempts = JoinSet::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let ended = if waiting.is_empty() {
            attempts.join_next().await
        } else {
            match tokio::time::timeout(HEAD_START, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok((address, Ok(stream)))) => {
                prepare(&stream).map_err(ConnectError::Unreachable)?;
                return Ok((stream, address));
            }
            Some(Ok((_, Err(error)))) => {
                failure = Some(worse(failure.take(), ConnectError::from(error)));
            }
            Some(Err(_)) => {}
            None if waiting.is_empty() => {
                let none = || ConnectError::Unreachable(io::ErrorKind::AddrNotAvailable.into());
                return Err(failure.unwrap_or_else(none));
            }
            None => {}
        }
    }
}

/// No delay for small writes, and keepalive.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    Ok(())
}

/// The families in turn, IPv6 first, each in the order given (RFC 8305 4).
fn interleave(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let mut v6 = addresses.iter().filter(|address| address.is_ipv6());
    let mut v4 = addresses.iter().filter(|address| address.is_ipv4());
    let mut order = VecDeque::new();
    loop {
        let next = [v6.next(), v4.next()];
        if next == [None, None] {
            order.truncate(MAX_ATTEMPTS);
            return order;
        }
        order.extend(next.into_iter().flatten());
    }
}

/// What tells the guest most: that there was a refusal, then that there was silence.
fn worse(first: Option<ConnectError>, second: ConnectError) -> ConnectError {
    let rank = |error: &ConnectError| match error {
        ConnectError::Refused => 2,
        ConnectError::Timeout => 1,
        ConnectError::Unreachable(_) => 0,
    };
    match first {
        Some(first) if rank(&first) >= rank(&second) => first,
        _ => second,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_families_take_turns() {
        let addresses: Vec<SocketAddr> =
            ["8.8.8.8:1", "8.8.4.4:1", "1.1.1.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1"]
                .map(|text| text.parse().expect("an address"))
                .to_vec();
        let order: Vec<_> = interleave(&addresses).iter().map(ToString::to_string).collect();
        let expected =
            ["[2001:db8::1]:1", "8.8.8.8:1", "[2001:db8::2]:1", "8.8.4.4:1", "1.1.1.1:1"];
        assert_eq!(order, expected);
        assert_eq!(interleave(&addresses.repeat(9)).len(), MAX_ATTEMPTS);
    }

    /// Nobody listens there, and nobody else gets the port as long as the socket is there.
    fn closed() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let address = socket.local_addr().expect("an address");
        (socket, address)
    }

    #[tokio::test]
    async fn a_refusal_leads_to_the_next_address() {
        let (_socket, closed) = closed();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
        let open = listener.local_addr().expect("an address");
        let (stream, peer) = connect(&[closed, open]).await.expect("connected");
        assert_eq!((peer, stream.peer_addr().expect("a peer")), (open, open));
        assert!(stream.nodelay().expect("an option"));
        assert!(sockopt::socket_keepalive(&stream).expect("an option"));
    }

    #[tokio::test]
    async fn silence_is_not_waited_for_when_there_is_another_address() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let listener = socket.listen(1).expect("a listener");
        let silent = listener.local_addr().expect("an address");
        // Once its queue is full, the kernel lets further attempts wait.
        let mut queue = Vec::new();
        while let Ok(stream) = timeout(HEAD_START, TcpStream::connect(silent)).await {
            queue.push(stream.expect("connected"));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
        let open = listener.local_addr().expect("an address");
        let (_, peer) = connect(&[silent, open]).await.expect("connected");
        assert_eq!(peer, open);
    }

    #[tokio::test]
    async fn the_error_says_that_it_was_refused() {
        let (_socket, closed) = closed();
        assert!(matches!(connect(&[closed]).await, Err(ConnectError::Refused)));
        assert!(matches!(connect(&[]).await, Err(ConnectError::Unreachable(_))));
    }
}
