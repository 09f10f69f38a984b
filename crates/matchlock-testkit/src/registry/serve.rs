//! HTTP/1.1 by hand, so that its transfers can end as no server should end them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::answer::{self, Reply};
use super::{Request, State, lock};

/// The first byte of a TLS record with a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
) {
    let connections = AtomicUsize::new(0);
    while let Ok((stream, _)) = listener.accept().await {
        let connection = connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
        tokio::spawn(async move {
            // What a client sees of an end is what the script says; the rest is of no interest.
            let _ = match acceptor {
                None => serve(stream, connection, false, &state).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => serve(stream, connection, true, &state).await,
                    Err(error) => Err(error),
                },
            };
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    tls: bool,
    state: &State,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    if stream.fill_buf().await?.first() == Some(&HANDSHAKE) {
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nTLS to a plain port\n").await?;
        return stream.shutdown().await;
    }
    while let Some(request) = read(&mut stream, connection, tls).await? {
        lock(&state.requests).push(request.clone());
        let scripted = lock(&state.script).as_ref().and_then(|script| script(&request));
        let reply = scripted.unwrap_or_else(|| answer::answer(&lock(&state.content), &request));
        if !write(&mut stream, &reply).await? {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

async fn read(
    stream: &mut (impl AsyncBufReadExt + Unpin),
    connection: usize,
    tls: bool,
) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.iter();
    let mut words = lines.next().map(|line| line.split(' ')).into_iter().flatten();
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let headers = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut request = Request { connection, tls, method, target, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut request.body).await?;
    Ok(Some(request))
}

/// Whether the connection goes on.
async fn write(stream: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<bool> {
    if reply.cut == Some(0) {
        return Ok(false);
    }
    let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match reply.unsized_body {
        true => head += "Connection: close\r\n",
        false => head += &format!("Content-Length: {}\r\n", reply.body.len()),
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    let end = reply.cut.or(reply.stall).unwrap_or(usize::MAX).min(reply.body.len());
    stream.write_all(&reply.body[..end]).await?;
    stream.flush().await?;
    if reply.stall.is_some() {
        std::future::pending::<()>().await;
    }
    Ok(reply.cut.is_none() && !reply.unsized_body)
}
