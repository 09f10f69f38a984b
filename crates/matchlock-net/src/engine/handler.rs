//! The engine as the stack sees it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::stream::BoxedStream;
use super::tcp::Pending;
use super::udp::{self, Replies, Verdict};
use super::{Engine, resolver, tcp};
use crate::cause::Cause;
use crate::dns::Transport;
use crate::stack::{Datagram, Handler, PendingFlow, UdpReplies, UdpVerdict};

impl Handler for Engine {
    fn syn(self: &Arc<Self>, flow: PendingFlow) {
        let Ok(permit) = Arc::clone(&self.flows).try_acquire_owned() else {
            tracing::debug!("the guest has too many connections");
            return flow.refuse();
        };
        let engine = Arc::clone(self);
        // Detached: a panic in there ends this flow only.
        tokio::spawn(async move {
            let _permit = permit;
            let destination = flow.dst();
            if engine.serves_dns(destination) {
                let guest = Box::new(flow.accept());
                if let Err(error) = resolver::serve(engine, guest).await {
                    let cause = Cause::of(&error);
                    tracing::debug!(%cause, "DNS connection failed");
                }
            } else {
                tcp::run(engine, flow).await;
            }
        });
    }

    fn udp(self: &Arc<Self>, datagram: Datagram, replies: UdpReplies) -> UdpVerdict {
        let Datagram { src, dst, payload } = datagram;
        if !self.serves_dns(dst) {
            return match udp::relay(self, (src, dst), payload, replies) {
                Verdict::Taken => UdpVerdict::Taken,
                Verdict::Refused => UdpVerdict::Refused,
            };
        }
        question(self, payload, replies);
        UdpVerdict::Taken
    }
}

/// Answers a question, unless too many are being answered: the guest's resolver asks again.
pub(super) fn question(engine: &Arc<Engine>, payload: Bytes, replies: impl Replies) {
    let Ok(permit) = Arc::clone(&engine.questions).try_acquire_owned() else { return };
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let _permit = permit;
        if let Some(answer) = resolver::answer(&engine, &payload, Transport::Udp).await {
            replies.send(&answer);
        }
    });
}

impl Pending for PendingFlow {
    fn destination(&self) -> SocketAddr {
        self.dst()
    }

    fn accept(self) -> impl Future<Output = io::Result<BoxedStream>> + Send {
        let flow: BoxedStream = Box::new(PendingFlow::accept(self));
        std::future::ready(Ok(flow))
    }

    fn refuse(self) {
        PendingFlow::refuse(self);
    }
}

impl Replies for UdpReplies {
    fn send(&self, payload: &[u8]) {
        let _ = UdpReplies::send(self, payload);
    }
}
