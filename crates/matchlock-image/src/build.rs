//! Images from Dockerfiles, without a daemon.
mod error;
mod expand;
mod graph;
mod ignore;
mod instruction;
mod parse;
mod pattern;
mod root;
mod source;
mod state;
mod time;
mod variables;
mod words;
pub use error::{At, Problem, SyntaxError};
