//! What can be wrong with a Dockerfile and with a step of it.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::BoxError;
use super::copy::CopyError;
use super::files::FilesError;
use matchlock_image::erofs;
use matchlock_image::layer::LayerError;
use matchlock_image::manifest::ManifestError;
use matchlock_image::store::StoreError;

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
    #[error("unknown flag --{}", plain(.0))]
    UnknownFlag(String),
    /// A flag twice.
    #[error("--{} is given twice", plain(.0))]
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
    #[error("{} is not supported by the built-in builder; {instead}", plain(what))]
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
    #[error("{name}: {}", plain(message))]
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
    #[error("{} cannot be a trigger", plain(.0))]
    BadTrigger(String),
}

/// The way out of what this builder does not have.
const BUILDKIT: &str = "BuildKit can do it";

impl Problem {
    /// A feature that BuildKit has.
    #[must_use]
    pub fn needs_buildkit(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), instead: BUILDKIT }
    }

    /// Whether BuildKit could do what was asked for.
    fn is_of_buildkit(&self) -> bool {
        matches!(self, Self::Unsupported { instead, .. } if *instead == BUILDKIT)
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
        Self { file: Arc::clone(file), line, text: plain(&words) }
    }
}

/// Without characters that a terminal obeys: Dockerfiles are others' texts.
fn plain(text: &str) -> String {
    text.chars().take(2 * QUOTED).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The Dockerfile.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// No such file.
    #[error("Dockerfile not found: {0}")]
    NoDockerfile(String),
    /// No such directory.
    #[error("build context {0:?} is not a directory")]
    NoContext(String),
    /// A file of the build itself.
    #[error("cannot read {path}")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the context that says what to build.
    #[error("cannot read {name}")]
    File {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<FilesError>,
    },
    /// The Dockerfile or an ignore file that a stranger's context has somewhere else.
    #[error(
        "{0} is a link that leads to no file of the context, and links out of it are not followed"
    )]
    LinkOutside(String),
    /// A pattern of an ignore file.
    #[error("{file}:{line}")]
    Ignore {
        /// The file.
        file: String,
        /// From 1.
        line: u32,
        /// What is wrong.
        #[source]
        source: Problem,
    },
    /// An image that a step begins with or copies from.
    #[error("{at}")]
    Image {
        /// Where it is named.
        at: At,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A step that failed.
    #[error("{at}")]
    Step {
        /// Where.
        at: At,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// The store of images.
    #[error("storing the image")]
    Store(#[from] StoreError),
    /// The result is no image, for instance of too many layers.
    #[error("the image that was built is not valid")]
    Result(#[source] ManifestError),
}

impl BuildError {
    /// Whether BuildKit could build it: the instruction is one that only this builder does not have.
    #[must_use]
    pub fn needs_buildkit(&self) -> bool {
        match self {
            Self::Syntax(error) => error.problem.is_of_buildkit(),
            Self::Step { source, .. } => {
                matches!(&**source, StepError::Problem(problem) if problem.is_of_buildkit())
            }
            _ => false,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The command did.
    #[error("exited with status {0}")]
    Status(i32),
    /// The instruction, once its variables are replaced.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// Files.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A name that the image's /etc/passwd or /etc/group does not have.
    #[error("the image has no such user or group: {0:?}")]
    UnknownUser(String),
    /// An archive that is not unpacked here.
    #[error(
        "{0:?} is compressed in a way that ADD does not unpack here; unpack it in a RUN, or use COPY"
    )]
    Archive(String),
    /// An archive with whiteouts.
    #[error("the archive {0:?} is a layer of an image: its whiteouts cannot be files")]
    Whiteouts(String),
    /// A layer.
    #[error("making the layer")]
    Layer(#[from] LayerError),
    /// The file system of the layers so far.
    #[error("reading the image so far")]
    Image(#[source] erofs::ReadError),
    /// A file.
    #[error("reading or writing files of the build")]
    Io(#[from] io::Error),
    /// The store of images.
    #[error("storing the step")]
    Store(#[from] StoreError),
    /// The sandbox.
    #[error("the step could not be run")]
    Run(#[source] BoxError),
}

impl From<FilesError> for StepError {
    fn from(error: FilesError) -> Self {
        Self::Copy(error.into())
    }
}
