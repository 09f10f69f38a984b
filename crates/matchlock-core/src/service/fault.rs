//! Errors of core as the answers of JSON-RPC have them.

use matchlock_api::{ErrorCode, RpcError};
use matchlock_text::{DescribeChain, escape};

use super::Surroundings;
use crate::classified::{Classified, ErrorKind};
use crate::exec::ExecError;
use crate::values::InvalidConfig;

/// Makes answers with one code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault<'a> {
    code: ErrorCode,
    surroundings: &'a dyn Surroundings,
}

impl<'a> Fault<'a> {
    pub(super) fn new(code: ErrorCode, surroundings: &'a dyn Surroundings) -> Self {
        Self { code, surroundings }
    }

    /// For `map_err`.
    pub(super) fn of<E: Classified>(self) -> impl FnOnce(E) -> RpcError + 'a {
        move |error| self.told(&error, &DescribeChain(&error).to_string())
    }

    /// The same, with what was being done before the text.
    pub(super) fn doing<E: Classified>(self, doing: &str) -> impl FnOnce(E) -> RpcError + 'a {
        let doing = doing.to_owned();
        move |error| self.told(&error, &format!("{doing}: {}", DescribeChain(&error)))
    }

    fn told(self, error: &dyn Classified, text: &str) -> RpcError {
        let told = RpcError::new(self.code, error.kind(), escape::one_line(text));
        match error.hint() {
            Some(hint) => told.hinted(self.surroundings.words(hint)),
            None => told,
        }
    }
}

/// A command that could not be run: −32001, but −32000 when there is nothing that could run it.
pub(crate) fn of_exec(error: &ExecError) -> RpcError {
    let code = match error {
        ExecError::NotRunning => ErrorCode::Sandbox,
        _ => ErrorCode::Exec,
    };
    RpcError::new(code, error.kind(), escape::one_line(&DescribeChain(error).to_string()))
}

/// A parameter that cannot be.
pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> RpcError {
    let text = format!("invalid configuration: {field}: {problem}");
    let kind = ErrorKind::InvalidArgument;
    RpcError::new(ErrorCode::InvalidParams, kind, escape::one_line(&text)).of_field(field)
}

/// A value that no sandbox can have: −32602, but −32000 for what this machine alone has not enough of.
pub(super) fn of_value(field: &'static str) -> impl FnOnce(InvalidConfig) -> RpcError {
    move |error| {
        let code = match error {
            InvalidConfig::TooManyCpus { .. } | InvalidConfig::TooMuchMemory { .. } => {
                ErrorCode::Sandbox
            }
            _ => ErrorCode::InvalidParams,
        };
        let text = format!("invalid configuration: {}", error.named(field));
        RpcError::new(code, error.kind(), escape::one_line(&text)).of_field(field)
    }
}
