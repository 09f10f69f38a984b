//! Images from Dockerfiles, without a daemon and without privileges.
//!
//! ```text
//!   Dockerfile ─► parse ─► graph: stages that the target needs
//!                                │
//!       context ──────────► COPY, ADD, WORKDIR: layers made on this host
//!       Runner  ──────────► RUN: a sandbox for each, its changes as a layer
//!                                │
//!                          Store: layers by key (the cache), the image by name
//! ```
//!
//! The text is read once into stages and instructions ([`SyntaxError`] names the line). Then each stage
//! that is needed is carried out in turn. A step that changes files has a key: a digest over the layers
//! below it and all that goes into it. When the store has a layer for that key, the step is not carried
//! out. Only RUN needs a virtual machine; whoever calls [`build`] brings a [`Runner`].
//!
//! Where this differs from BuildKit's Dockerfile front end: a cache mount is an empty directory each
//! time; `COPY --parents`, `--exclude`, ADD of URLs and repositories, mounts of secrets and of agents of
//! SSH are refused with the line and a way out; a stage is for this host's processor.

mod add;
mod context;
mod copy;
mod error;
mod execute;
mod expand;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod graph;
mod ignore;
mod instruction;
mod key;
mod mounts;
mod parse;
mod request;
mod root;
mod run;
mod send;
mod source;
mod sources;
mod stage;
mod state;
mod variables;
mod words;

pub use copy::CopyError;
pub use error::{At, BuildError, Problem, StepError, SyntaxError};
pub use execute::build;
pub use files::FilesError;
pub use request::{
    BuildEvent, BuildProgress, BuildRequest, Built, ImageSource, Output, RunResult, RunStep,
    Runner, Stream,
};
pub use root::PathError;
pub use send::{BuildFiles, SendError};

/// An error of whoever runs steps or finds images.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[cfg(test)]
mod tests;
