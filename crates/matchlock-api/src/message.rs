//! The tables of all messages: what a client sends, and what it is told.
//!
//! One line of a table makes the variant of an enum, the marker type that a client is typed by, and the
//! entry from which the reference is written. So they cannot differ.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::control::{
    AllowListResult, DialParams, PackParams, RunParams, SecretInfo, SecretListResult,
    SecretNameParams, SecretSetParams, StatsResult, TopResult, UnpackParams,
};
use crate::create::{CreateParams, CreateResult};
use crate::event::Event;
use crate::exec::{Chunk, ExecParams, ExecResult, ExecTtyParams, ExitResult, Resize, Running};
use crate::files::{ContentResult, Empty, ListFilesResult, NoParams, PathParams, WriteFileParams};
use crate::lifecycle::{CancelParams, CancelResult, CloseParams};
use crate::network::{
    AllowListAddResult, AllowListDeleteResult, HostsParams, PortForwardParams, PortForwardResult,
};
use crate::params::{self, Ignored, InvalidParams, Params};

/// A method: what a service answers and what a client calls are typed by the same implementation.
pub trait Method {
    /// Its name on the wire.
    const NAME: &'static str;
    /// Whether it tells of its progress by its id, so that it cannot be a notification.
    const NEEDS_ID: bool;
    /// What it takes.
    type Params: Params;
    /// What it gives.
    type Result: Serialize + DeserializeOwned;

    /// The table that it is in.
    type Call: Serialize;

    /// The call with these parameters.
    fn call(params: Self::Params) -> Self::Call;
}

/// A message in a table, for the reference.
#[derive(Debug, Clone, Copy)]
pub struct MessageInfo {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it does: the documentation of its variant.
    pub doc: &'static str,
    /// Whether it must have an id.
    pub needs_id: bool,
    /// The schema of its parameters.
    #[cfg(feature = "schema")]
    pub params: crate::schema::Make,
    /// The schema of its result. `None` for what is never answered.
    #[cfg(feature = "schema")]
    pub result: Option<crate::schema::Make>,
}

/// Makes an enum of messages. Its `read` gives `None` for a name that is not in the table.
macro_rules! messages {
    (@result) => { None };
    (@result $result:ty) => { Some(crate::schema::of::<$result>) };
    (
        $(#[doc = $enum_doc:literal])+
        $enum:ident {
            $(
                $(#[doc = $doc:literal])+
                $variant:ident = $name:literal: $params:ty $(=> $result:ty)?, needs_id: $needs:literal;
            )+
        }
    ) => {
        $(#[doc = $enum_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub enum $enum {
            $( $(#[doc = $doc])+ $variant($params), )+
        }

        impl $enum {
            /// Every one, in the order of the table.
            pub const ALL: &'static [MessageInfo] = &[$(
                MessageInfo {
                    name: $name,
                    doc: concat!($($doc, "\n"),+),
                    needs_id: $needs,
                    #[cfg(feature = "schema")]
                    params: crate::schema::of::<$params>,
                    #[cfg(feature = "schema")]
                    result: messages!(@result $($result)?),
                },
            )+];

            /// Its name on the wire.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => $name, )+
                }
            }

            /// Whether it must have an id.
            #[must_use]
            pub fn needs_id(&self) -> bool {
                match self {
                    $( Self::$variant(_) => $needs, )+
                }
            }

            /// `None` if no message has this name.
            pub(crate) fn read(
                name: &str,
                raw: Option<&RawValue>,
            ) -> Option<Result<(Self, Ignored), InvalidParams>> {
                let read = match name {
                    $( $name => params::read(raw).map(|(params, ignored)| {
                        (Self::$variant(params), ignored)
                    }), )+
                    _ => return None,
                };
                Some(read)
            }
        }

        /// The parameters alone.
        impl Serialize for $enum {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(params) => params.serialize(serializer), )+
                }
            }
        }
    };
}

/// As [`messages!`], with a marker type for each that implements [`Method`].
macro_rules! methods {
    (
        $(#[doc = $enum_doc:literal])+
        $enum:ident, types in $module:ident {
            $(
                $(#[doc = $doc:literal])+
                $variant:ident = $name:literal: $params:ty => $result:ty, needs_id: $needs:literal;
            )+
        }
    ) => {
        messages! {
            $(#[doc = $enum_doc])+
            $enum {
                $(
                    $(#[doc = $doc])+
                    $variant = $name: $params => $result, needs_id: $needs;
                )+
            }
        }

        /// A type for each method, to type a client's call by.
        pub mod $module {
            use super::*;

            $(
                $(#[doc = $doc])+
                #[derive(Debug, Clone, Copy)]
                pub enum $variant {}

                impl Method for $variant {
                    const NAME: &'static str = $name;
                    const NEEDS_ID: bool = $needs;
                    type Params = $params;
                    type Result = $result;
                    type Call = $enum;

                    fn call(params: $params) -> $enum {
                        $enum::$variant(params)
                    }
                }
            )+
        }
    };
}

methods! {
    /// What a client asks for, and is answered.
    Call, types in method {
        /// Makes and starts the sandbox: the image is pulled if it is not here, which can take minutes. It can be
        /// cancelled. A process has one sandbox, so a second `create` is an error −32000.
        Create = "create": Box<CreateParams> => CreateResult, needs_id: false;
        /// Runs a command with no input, and answers when it has ended. A status other than 0 is a result.
        Exec = "exec": ExecParams => ExecResult, needs_id: false;
        /// Runs a command with no input. Its output comes as `exec_stream.stdout` and `exec_stream.stderr`, all of it
        /// before the result.
        ExecStream = "exec_stream": ExecParams => ExitResult, needs_id: true;
        /// Runs a command whose input the client sends. `exec_pipe.ready` says when it can begin; output comes as
        /// `exec_pipe.stdout` and `exec_pipe.stderr`, all of it before the result.
        ExecPipe = "exec_pipe": ExecParams => ExitResult, needs_id: true;
        /// Runs a command on a terminal. `exec_tty.ready` says when input can begin; output comes as
        /// `exec_tty.stdout`, all of it before the result.
        ExecTty = "exec_tty": ExecTtyParams => ExitResult, needs_id: true;
        /// Writes a file, as root of the guest. A file that is there is replaced and keeps its mode.
        WriteFile = "write_file": WriteFileParams => Empty, needs_id: false;
        /// Reads a regular file, as root of the guest.
        ReadFile = "read_file": PathParams => ContentResult, needs_id: false;
        /// Lists a directory, as root of the guest.
        ListFiles = "list_files": PathParams => ListFilesResult, needs_id: false;
        /// Reads the sandbox's log, after `close` too.
        Log = "log": NoParams => ContentResult, needs_id: false;
        /// Follows the sandbox's log, from its beginning: `log_stream.data`. It ends by `cancel`, with an error −32003.
        LogStream = "log_stream": NoParams => Empty, needs_id: true;
        /// Allows more hosts.
        AllowListAdd = "allow_list_add": HostsParams => AllowListAddResult, needs_id: false;
        /// Allows hosts no longer.
        AllowListDelete = "allow_list_delete": HostsParams => AllowListDeleteResult, needs_id: false;
        /// Forwards ports of this machine to the sandbox, in the place of those that were forwarded before.
        PortForward = "port_forward": PortForwardParams => PortForwardResult, needs_id: false;
        /// Ends a request, which is then answered with an error −32003. It is answered at once.
        Cancel = "cancel": CancelParams => CancelResult, needs_id: false;
        /// Cancels all requests, ends the sandbox, and answers. The process ends when its standard input does.
        Close = "close": CloseParams => Empty, needs_id: false;
    }
}

methods! {
    /// What only the control socket has, beside calls that concern a running sandbox.
    ControlCall, types in control_method {
        /// Runs a program, without a shell. Its streams are frames.
        Run = "run": RunParams => ExitResult, needs_id: false;
        /// Connects to a TCP port of the guest. After the answer the connection carries its plain bytes.
        Dial = "dial": DialParams => Empty, needs_id: false;
        /// Writes files of the guest as a tar archive, as root of the guest.
        Pack = "pack": PackParams => ExitResult, needs_id: false;
        /// Makes files of the guest of a tar archive, as root of the guest.
        Unpack = "unpack": UnpackParams => ExitResult, needs_id: false;
        /// Tells what the sandbox uses.
        Stats = "stats": NoParams => StatsResult, needs_id: false;
        /// Tells what runs in the guest.
        Top = "top": NoParams => TopResult, needs_id: false;
        /// Tells which secrets there are, without their values.
        SecretList = "secret_list": NoParams => SecretListResult, needs_id: false;
        /// Gives a secret another value, or adds one: the next request has it. The placeholder stays.
        SecretSet = "secret_set": SecretSetParams => SecretInfo, needs_id: false;
        /// Removes a secret: from the next request on, its placeholder stands for nothing.
        SecretDelete = "secret_delete": SecretNameParams => Empty, needs_id: false;
        /// Tells which hosts are allowed.
        AllowList = "allow_list": NoParams => AllowListResult, needs_id: false;
    }
}

messages! {
    /// What a client sends to a command that runs. It is never answered, with an id or without one; what
    /// names no running command or cannot be read is dropped.
    Input {
        /// Bytes for the standard input of `exec_pipe`.
        ExecPipeStdin = "exec_pipe.stdin": Chunk, needs_id: false;
        /// The end of the standard input of `exec_pipe`.
        ExecPipeStdinEof = "exec_pipe.stdin_eof": Running, needs_id: false;
        /// Bytes for the terminal of `exec_tty`.
        ExecTtyStdin = "exec_tty.stdin": Chunk, needs_id: false;
        /// The end of the input of `exec_tty`.
        ExecTtyStdinEof = "exec_tty.stdin_eof": Running, needs_id: false;
        /// A new size for the terminal of `exec_tty`.
        ExecTtyResize = "exec_tty.resize": Resize, needs_id: false;
    }
}

messages! {
    /// What a client is told without asking. It has no id of its own.
    Notification {
        /// Standard output of `exec_stream`.
        ExecStreamStdout = "exec_stream.stdout": Chunk, needs_id: false;
        /// Standard error of `exec_stream`.
        ExecStreamStderr = "exec_stream.stderr": Chunk, needs_id: false;
        /// The command of `exec_pipe` takes input now.
        ExecPipeReady = "exec_pipe.ready": Running, needs_id: false;
        /// Standard output of `exec_pipe`.
        ExecPipeStdout = "exec_pipe.stdout": Chunk, needs_id: false;
        /// Standard error of `exec_pipe`.
        ExecPipeStderr = "exec_pipe.stderr": Chunk, needs_id: false;
        /// The command of `exec_tty` takes input now.
        ExecTtyReady = "exec_tty.ready": Running, needs_id: false;
        /// What `exec_tty` shows: standard output and standard error.
        ExecTtyStdout = "exec_tty.stdout": Chunk, needs_id: false;
        /// More of the log.
        LogStreamData = "log_stream.data": Chunk, needs_id: false;
        /// Something happened in the sandbox.
        Event = "event": Box<Event>, needs_id: false;
    }
}
