//! Images from Dockerfiles, without a daemon.
mod context;
mod copy;
mod error;
mod expand;
mod files;
mod graph;
mod ignore;
mod instruction;
mod key;
mod parse;
mod pattern;
mod root;
mod source;
mod state;
mod time;
mod variables;
mod words;
pub use error::{At, Problem, SyntaxError};
