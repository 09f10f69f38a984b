//! What can be wrong with a Dockerfile and with a step of it.

use std::fmt;
use std::sync::Arc;

/// Longest piece of an instruction that an error quotes, in characters.
const QUOTED: usize = 100;

/// A place in a Dockerfile: `Dockerfile:12: RUN make`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// The instruction on one line; empty when the line is none.
    pub text: String,
}

/// A Dockerfile that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}")]
pub struct SyntaxError {
    /// Where.
    pub at: At,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// A problem with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// From 1.
    pub(crate) line: u32,
    /// What is wrong.
    pub(crate) problem: Problem,
}

/// What is wrong with an instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// More than the reader takes.
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    /// More than the reader takes.
    #[error("more than 10000 instructions")]
    TooManyInstructions,
    /// Not text.
    #[error("the file is not UTF-8")]
    NotUtf8,
    /// NUL would end a string of the guest.
    #[error("a NUL character")]
    Nul,
    /// `# escape=` twice.
    #[error("the directive {0} is given twice")]
    RepeatedDirective(String),
    /// Neither `\` nor a backtick.
    #[error("the escape character can be \\ or `, not {0:?}")]
    BadEscape(String),
    /// No line ends it.
    #[error("no line {0:?} ends the here-document")]
    OpenHeredoc(String),
    /// Not an instruction.
    #[error("unknown instruction {0:?}")]
    UnknownInstruction(String),
    /// An instruction before the first FROM.
    #[error("only ARG may stand before the first FROM")]
    BeforeFrom,
    /// No FROM at all.
    #[error("no FROM: there is nothing to build")]
    NoStage,
    /// An instruction alone on its line.
    #[error("an argument is missing")]
    NoArgument,
    /// More or fewer words than the instruction takes.
    #[error("expected: {0}")]
    Expected(&'static str),
    /// A flag that the instruction does not have.
    #[error("unknown flag --{0}")]
    UnknownFlag(String),
    /// A flag twice.
    #[error("--{0} is given twice")]
    RepeatedFlag(String),
    /// A flag without what it needs, or with what it cannot use.
    #[error("--{flag}: {why}")]
    BadFlag {
        /// Without the dashes.
        flag: &'static str,
        /// What it needs.
        why: String,
    },
    /// A valid instruction that this builder does not have.
    #[error("{what} is not supported by the built-in builder; {instead}")]
    Unsupported {
        /// The feature.
        what: String,
        /// The way out.
        instead: &'static str,
    },
    /// `["a", 1]`.
    #[error("a list in JSON may hold strings only")]
    JsonNotStrings,
    /// Not a name of a stage.
    #[error(
        "not a name for a stage: {0:?} (a lower-case letter, then letters, digits, '-', '_', '.')"
    )]
    BadStageName(String),
    /// Two stages of one name.
    #[error("the stage {0:?} is defined twice")]
    RepeatedStage(String),
    /// `--target`.
    #[error("no stage {0:?} in the file")]
    NoSuchStage(String),
    /// A stage that uses itself or one below it.
    #[error("the stage {0:?} is not defined before this line")]
    LaterStage(String),
    /// Not a name of a variable.
    #[error("not a name of a variable: {0:?}")]
    BadVariable(String),
    /// A quote without its end.
    #[error("no closing {0} in {1:?}")]
    OpenQuote(char, String),
    /// `${…` without its end, or with an operator that does not exist.
    #[error("not a substitution of a variable: {0:?}")]
    BadSubstitution(String),
    /// `${name:?text}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text behind `?`.
        message: String,
    },
    /// Braces in braces, or values that double each time.
    #[error("variables make this too long or too deep")]
    ExpansionLimit,
    /// `[a` or `\` at the end.
    #[error("not a pattern: {0:?}")]
    BadPattern(String),
    /// Not a duration of Go.
    #[error("not a duration: {0:?} (write 30s, 1m30s)")]
    BadDuration(String),
    /// A value that does not fit.
    #[error("not {what}: {value:?}")]
    BadValue {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// `ONBUILD ONBUILD` and others.
    #[error("{0} cannot be a trigger")]
    BadTrigger(String),
}

impl Problem {
    /// A feature that BuildKit has.
    pub(crate) fn needs_buildkit(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), instead: "use --builder buildkit" }
    }
}

impl At {
    /// A place with the instruction as it is written.
    #[must_use]
    pub fn new(file: &Arc<str>, line: u32, text: &str) -> Self {
        let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((cut, _)) = words.char_indices().nth(QUOTED) {
            words.truncate(cut);
            words.push('…');
        }
        let text = words.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { file: Arc::clone(file), line, text }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}
