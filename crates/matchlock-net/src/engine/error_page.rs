//! What the guest is told when the other side cannot be had.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::outside::OutsideError;
use super::stream::linger;

/// For the guest's request to arrive.
const REQUEST: Duration = Duration::from_secs(10);
/// A request is read no further than this before it is answered.
const LONGEST_HEAD: usize = 64 * 1024;

/// Waits for a request and answers it: 403 for what policy denies, 502 for what failed, with the
/// reason but not its causes, which are about the host.
pub(crate) async fn send(
    mut guest: impl AsyncRead + AsyncWrite + Unpin,
    error: &OutsideError,
) -> io::Result<()> {
    // The guest may as well never ask: it is told all the same.
    let _ = tokio::time::timeout(REQUEST, read_head(&mut guest)).await;
    let (status, body) = match error.denied() {
        Some(_) => ("403 Forbidden", "Blocked by policy".to_owned()),
        None => ("502 Bad Gateway", format!("Failed to connect: {error}")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    guest.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    guest.flush().await?;
    linger(guest).await;
    Ok(())
}

async fn read_head(guest: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut head = Vec::new();
    while head.len() < LONGEST_HEAD {
        let looked_at = head.len().saturating_sub(3);
        if guest.read_buf(&mut head).await? == 0 {
            break;
        }
        if head[looked_at..].windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    Ok(())
}
