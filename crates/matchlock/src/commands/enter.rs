//! What the commands share that enter a sandbox which runs: its control socket, and errors over it.

use std::path::PathBuf;

use matchlock_core::api::RpcError;
use matchlock_core::control::{ClientError, Connection, connect};
use matchlock_core::{DescribeChain, SandboxId, SandboxRecord, SandboxStatus, StateRoot};

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::event_loop::beside;

/// A sandbox that runs, or did a moment ago.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: SandboxId,
    pub(super) name: Option<String>,
    pub(super) directory: PathBuf,
}

impl Running {
    /// The sandbox that is meant by an id, the beginning of one, or a name.
    pub(super) async fn find(wanted: &str, environment: &Environment) -> Result<Self, CliError> {
        let (state, wanted) = (environment.state()?, wanted.to_owned());
        let found = beside(move || {
            let record = lookup(&state, &wanted)?;
            let directory = state.directory_of(&record.id);
            Ok((record, directory))
        });
        let (record, directory) = found.await?;
        let (id, name, status) = (record.id, record.name, record.status);
        if status != SandboxStatus::Running {
            let text = format!("VM {id} is not running (status: {status})");
            return Err(CliError::new(text).of_kind(Kind::Conflict));
        }
        Ok(Self { id, name, directory })
    }

    /// All that run.
    pub(super) async fn all(environment: &Environment) -> Result<Vec<Self>, CliError> {
        let state = environment.state()?;
        let listed = beside(move || {
            let records = state.list()?.into_iter();
            let running = records.filter(|record| record.status == SandboxStatus::Running);
            let found = running.map(|SandboxRecord { id, name, .. }| {
                let directory = state.directory_of(&id);
                Self { id, name, directory }
            });
            Ok(found.collect())
        });
        listed.await
    }

    /// A connection for one call.
    pub(super) async fn connect(&self) -> Result<Connection, CliError> {
        connect(&self.directory).await.map_err(|error| {
            let error = CliError::of_io(format!("cannot reach VM {}", self.id), &error);
            error.of_kind(Kind::Unavailable).hinted("it may be starting or ending: try again")
        })
    }
}

/// The sandbox that is meant by an id, the beginning of one, or a name.
pub(super) fn lookup(state: &StateRoot, wanted: &str) -> Result<SandboxRecord, CliError> {
    state.find(wanted).map_err(CliError::from).map_err(|error| match error.kind() {
        Kind::NotFound => error.context(&format!("VM not found {wanted}")),
        _ => error,
    })
}

/// An error over the control socket.
pub(super) fn describe(error: &ClientError) -> CliError {
    match error {
        ClientError::Refused(RpcError { message, data, .. }) => {
            let told = CliError::new(message.as_str());
            let Some(data) = data else { return told.of_kind(Kind::Guest) };
            let told = told.of_kind(data.kind);
            match &data.hint {
                Some(hint) => told.hinted(hint.as_str()),
                None => told,
            }
        }
        error => CliError::new(DescribeChain(error).to_string()).of_kind(Kind::Guest),
    }
}
