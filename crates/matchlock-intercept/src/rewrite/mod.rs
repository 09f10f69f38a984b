//! Placeholders to secrets in requests, and secrets out of responses.

mod coding;
mod forms;
mod pattern;
mod stream;

pub use coding::{Decoder, Progress, Undecodable, content_encoding};
