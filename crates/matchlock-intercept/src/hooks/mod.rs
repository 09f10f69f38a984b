//! Rules and callbacks that look at requests and responses.
//!
//! A rule matches a request by host, method and path; it blocks, changes heads and bodies, and may
//! ask a callback of the SDK for more. Before-rules see placeholders, never values. What decides
//! where a message goes and where it ends, `Host` and the framing fields, is out of every rule's
//! reach.

mod apply;
mod body;
mod query;
mod reply;
mod rule;
mod sse;
mod wire;

pub use body::{BodyEdit, BodyEditor, EditError, MAX_BODY, Replacement};
pub use matchlock_text::glob::BadPattern;
pub use reply::{CallbackError, CallbackReply, MAX_REPLY};
pub use rule::{InvalidRule, Matching, OnError, Phase, RequestView, Rule, RuleProblem, Rules};
pub use sse::{MAX_LINE, SseEditor, is_event_stream};
pub use wire::{CallbackRequest, WireReplacement, WireRule};

#[cfg(test)]
mod tests;
