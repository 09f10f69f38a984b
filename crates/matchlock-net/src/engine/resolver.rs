//! The guest's questions for names, over UDP and TCP, at the gateway.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Engine;
use super::stream::BoxedStream;
use crate::audit::{Decision, Event};
use crate::dns::{self, Question, Transport};
use crate::refusals::Refusal;

/// Where DNS is served.
pub(crate) const PORT: u16 = 53;

/// A connection on which nothing is asked for this long is closed (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(20);

/// Answers one message, if it deserves an answer and the audit trail has taken the question.
pub(crate) async fn answer(engine: &Engine, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let policy = engine.shared.policy();
    let answer = dns::answer(&engine.dns, &policy, query, transport).await?;
    if let Some(question) = answer.question {
        record(engine, question)?;
    }
    (!engine.shared.is_closed()).then_some(answer.bytes)
}

/// Serves a connection: messages with their length before them (RFC 1035, section 4.2.2), one
/// after the other.
pub(crate) async fn serve(engine: Arc<Engine>, mut guest: BoxedStream) -> io::Result<()> {
    loop {
        let Ok(query) = tokio::time::timeout(IDLE, read_message(&mut guest)).await else {
            return guest.shutdown().await;
        };
        let Some(query) = query? else { return guest.shutdown().await };
        let Some(answer) = answer(&engine, &query, Transport::Tcp).await else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        guest.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

async fn read_message(guest: &mut BoxedStream) -> io::Result<Option<Vec<u8>>> {
    let length = match guest.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; length.into()];
    guest.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// None if the question could not be recorded.
fn record(engine: &Engine, question: Question) -> Option<()> {
    let Question { name, qtype, allowed, rule, reason, denied } = question;
    if let Some(denied) = denied {
        engine.shared.refused(Refusal::denied(name.clone(), None, &denied));
    }
    let decision = if allowed { Decision::Allowed } else { Decision::Denied };
    engine.shared.audit(&Event::Dns { name, qtype, decision, rule, reason }).ok()
}
