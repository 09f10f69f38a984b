//! What the guest is told when the other side cannot be had.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::linger;

/// For the guest's request to arrive.
const REQUEST: Duration = Duration::from_secs(10);
/// A request is read no further than this before it is answered.
const LONGEST_HEAD: usize = 64 * 1024;

/// Waits for a request and answers it with 502 and the reason, which must be fit for the guest.
pub(crate) async fn bad_gateway(
    mut guest: impl AsyncRead + AsyncWrite + Unpin,
    reason: &str,
) -> io::Result<()> {
    // The guest may as well never ask: it is told all the same.
    let _ = tokio::time::timeout(REQUEST, read_head(&mut guest)).await;
    let body = format!("Failed to connect: {reason}\n");
    let head = format!(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n\
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
