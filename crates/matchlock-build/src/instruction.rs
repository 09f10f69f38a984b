//! Instructions as values. Words still hold their variables and quotes: what they stand for is known
//! only when the step is carried out.

use std::time::Duration;

use super::error::At;
use super::source::Heredoc;

/// A name of ARG, and its default with variables and quotes.
pub(crate) type Argument = (String, Option<String>);

/// A file that was read: arguments before the first stage, and stages.
#[derive(Debug)]
pub(crate) struct Dockerfile {
    /// `\` or a backtick.
    pub(crate) escape: char,
    /// ARG before the first FROM.
    pub(crate) globals: Vec<(At, Vec<Argument>)>,
    /// At least one.
    pub(crate) stages: Vec<Stage>,
}

/// FROM and what follows it.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Of the FROM.
    pub(crate) at: At,
    /// Image or stage, with variables.
    pub(crate) from: String,
    /// `--platform`, with variables.
    pub(crate) platform: Option<String>,
    /// In lower case.
    pub(crate) name: Option<String>,
    /// In their order.
    pub(crate) steps: Vec<Step>,
}

/// One instruction and its place.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Where.
    pub(crate) at: At,
    /// All of it, for the history.
    pub(crate) text: String,
    /// What.
    pub(crate) instruction: Instruction,
}

/// All but FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    Arg(Vec<Argument>),
    Cmd(Command),
    Copy(Box<Copy>),
    Entrypoint(Command),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<(String, String)>),
    Maintainer(String),
    /// The instruction as text.
    Onbuild(String),
    Run(Box<Run>),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// A command for the shell or a list of arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Shell(String),
    Exec(Vec<String>),
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// ADD: archives are unpacked.
    pub(crate) add: bool,
    /// Paths and patterns.
    pub(crate) sources: Vec<String>,
    /// Sources whose content is in the Dockerfile.
    pub(crate) inline: Vec<Heredoc>,
    pub(crate) destination: String,
    /// A stage or an image, without variables.
    pub(crate) from: Option<String>,
    pub(crate) chown: Option<String>,
    pub(crate) chmod: Option<String>,
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) command: RunCommand,
    pub(crate) mounts: Vec<Mount>,
    /// False with `--network=none`.
    pub(crate) network: bool,
}

/// What a RUN runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunCommand {
    /// Shell or list. A here-document within a shell command is part of its text.
    Command(Command),
    /// `RUN <<EOF` with `#!` in its first line: a program of its own.
    Script(String),
}

/// A directory or file that a RUN sees and that is not part of its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// `type=cache` and `type=tmpfs`: an empty directory.
    Scratch { target: String, mode: u16, uid: u32, gid: u32 },
    /// `type=bind`: files of the context, a stage or an image.
    Bind { target: String, source: String, from: Option<String> },
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Healthcheck {
    None,
    Test {
        command: Command,
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u32>,
    },
}

impl Instruction {
    /// Stages and images that files come from.
    pub(crate) fn sources(&self) -> Vec<&str> {
        match self {
            Self::Copy(copy) => copy.from.iter().map(String::as_str).collect(),
            Self::Run(run) => run.mounts.iter().filter_map(Mount::from).collect(),
            _ => Vec::new(),
        }
    }
}

impl Mount {
    /// Where it appears.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Scratch { target, .. } | Self::Bind { target, .. } => target,
        }
    }

    fn from(&self) -> Option<&str> {
        match self {
            Self::Bind { from, .. } => from.as_deref(),
            Self::Scratch { .. } => None,
        }
    }
}
