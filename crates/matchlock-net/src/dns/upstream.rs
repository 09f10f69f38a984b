//! One question to the servers of the host, over UDP and, when the answer was cut, over TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::servers::{NoServer, Servers, Source};
use super::wire;

/// Questions that are under way at one time.
const MAX_IN_FLIGHT: usize = 256;
/// Longest time for one question over all tries.
const LIMIT: Duration = Duration::from_secs(5);
/// The largest datagram that is read: servers may send more than we said that we take.
const MAX_DATAGRAM: usize = 4096;

/// Asks the servers of the host.
#[derive(Debug)]
pub(crate) struct Upstream {
    source: Source,
    slots: Semaphore,
    limit: Duration,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("no name server to ask")]
    NoServer(#[from] NoServer),
    #[error("the name servers did not answer in time")]
    Timeout,
    #[error("the name servers failed ({0})")]
    Failed(ResponseCode),
    #[error("cannot reach a name server")]
    Unreachable(#[source] io::Error),
    #[error("too many questions at once")]
    Busy,
}

impl Upstream {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, slots: Semaphore::new(MAX_IN_FLIGHT), limit: LIMIT }
    }

    /// With another bound for all tries together.
    #[cfg(test)]
    pub(crate) fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The answer of the first server that has one: success or NXDOMAIN.
    pub(crate) async fn ask(&self, query: &Query) -> Result<Message, UpstreamError> {
        let _slot = self.slots.try_acquire().map_err(|_| UpstreamError::Busy)?;
        let servers = self.source.servers()?;
        let mut last = UpstreamError::Timeout;
        let all = ask_in_turn(&servers, query, &mut last);
        match tokio::time::timeout(self.limit, all).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(last),
        }
    }
}

async fn ask_in_turn(
    servers: &Servers,
    query: &Query,
    last: &mut UpstreamError,
) -> Option<Message> {
    for _ in 0..servers.attempts {
        for &server in &servers.addresses {
            match exchange(server, query, Instant::now() + servers.timeout).await {
                Ok(message) => match message.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => return Some(message),
                    code => *last = UpstreamError::Failed(code),
                },
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    *last = UpstreamError::Timeout;
                }
                Err(error) => *last = UpstreamError::Unreachable(error),
            }
        }
        // Only silence and what the network lost may be different the next time.
        if matches!(last, UpstreamError::Failed(_)) {
            break;
        }
    }
    None
}

async fn exchange(server: SocketAddr, query: &Query, deadline: Instant) -> io::Result<Message> {
    let message = ask_once(server, query, Edns::Sent, deadline).await?;
    match message.response_code {
        // What an old server says to EDNS (RFC 6891 7).
        ResponseCode::FormErr | ResponseCode::NotImp => {
            ask_once(server, query, Edns::Left, deadline).await
        }
        _ => Ok(message),
    }
}

/// Whether a question says that its asker knows EDNS.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Edns {
    Sent,
    Left,
}

async fn ask_once(
    server: SocketAddr,
    query: &Query,
    edns: Edns,
    deadline: Instant,
) -> io::Result<Message> {
    let message = udp(server, query, edns, deadline).await?;
    if message.truncation { tcp(server, query, edns, deadline).await } else { Ok(message) }
}

/// A socket of its own for each question, so that a forger has to guess the port too, and only
/// what comes from the server's address is seen (RFC 5452).
async fn udp(
    server: SocketAddr,
    query: &Query,
    edns: Edns,
    deadline: Instant,
) -> io::Result<Message> {
    let (id, bytes) = encode(query, edns)?;
    let local = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    within(deadline, async {
        socket.send(&bytes).await?;
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let count = socket.recv(&mut buffer).await?;
            // Not an answer to this question: a forger's, so the true one may still come.
            if let Some(message) = wire::read_answer(&buffer[..count], id, query) {
                return Ok(message);
            }
        }
    })
    .await
}

async fn tcp(
    server: SocketAddr,
    query: &Query,
    edns: Edns,
    deadline: Instant,
) -> io::Result<Message> {
    let (id, bytes) = encode(query, edns)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    within(deadline, async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        wire::read_answer(&answer, id, query)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an answer"))
    })
    .await
}

async fn within<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn encode(query: &Query, edns: Edns) -> io::Result<(u16, Vec<u8>)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_ne_bytes(id);
    let mut message = wire::question(id, query.clone());
    if edns == Edns::Left {
        message.edns = None;
    }
    Ok((id, message.to_vec().map_err(io::Error::other)?))
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a server that need not answer, for a moment.
    async fn ask(server: SocketAddr) -> Result<Message, UpstreamError> {
        let query = Query::query(Name::from_ascii("example.com").expect("a name"), RecordType::A);
        let brief = Duration::from_millis(100);
        Upstream::new(Source::new(&[server])).with_limit(brief).ask(&query).await
    }

    #[tokio::test]
    async fn forged_answers_without_end_end_with_the_question() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        let server = socket.local_addr().expect("bound");
        let flood = tokio::spawn(async move {
            let mut question = [0; 512];
            let (length, asker) = socket.recv_from(&mut question).await.expect("a question");
            // The identifier of another question.
            question[0] ^= 1;
            question[2] |= 0x80;
            loop {
                // It may have gone.
                let _ = socket.send_to(&question[..length], asker).await;
                tokio::task::yield_now().await;
            }
        });
        let told = ask(server).await;
        flood.abort();
        assert!(matches!(told, Err(UpstreamError::Timeout)), "{told:?}");
    }

    #[tokio::test]
    async fn an_answer_over_tcp_that_does_not_come_to_its_end_is_given_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        let server = listener.local_addr().expect("bound");
        let socket = UdpSocket::bind(server).await.expect("nobody else has it");
        let drip = tokio::spawn(async move {
            let mut question = [0; 512];
            let (length, asker) = socket.recv_from(&mut question).await.expect("a question");
            // An answer (QR) that was cut (TC).
            question[2] |= 0x82;
            socket.send_to(&question[..length], asker).await.expect("send");
            let (mut stream, _) = listener.accept().await.expect("asked again");
            stream.write_all(&[0xff, 0xff, 0]).await.expect("write");
            // Nothing more comes, and no end.
            std::future::pending::<()>().await;
        });
        let told = ask(server).await;
        drip.abort();
        assert!(matches!(told, Err(UpstreamError::Timeout)), "{told:?}");
    }
}
