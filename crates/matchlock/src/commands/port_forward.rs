//! `matchlock port-forward`: ports of this machine that lead to a sandbox which runs.

use matchlock_core::control::forward;
use matchlock_core::{DescribeChain, Listeners};

use super::enter::Running;
use crate::cli::PortForwardArgs;
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop::block_on;
use crate::options::network::{bind_addresses, port_forwards};
use crate::printer::Printer;
use crate::signals::Interrupts;

pub(crate) fn run(
    args: &PortForwardArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let Some((wanted, specs)) = args.positionals.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        let given = args.positionals.len();
        let text = format!("requires at least 2 arg(s), only received {given}");
        return Err(CliError::new(text).hinted("matchlock port-forward ID 8080:80"));
    };
    let (forwards, addresses) = (port_forwards(specs)?, bind_addresses(&args.address)?);
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let sandbox = Running::find(wanted, environment).await?;
        let listeners = Listeners::bind(&forwards, &addresses)?;
        let bindings: Vec<_> = listeners.bindings().collect();
        let _forwarded = forward(listeners, sandbox.directory, move |error| {
            let error = CliError::new(DescribeChain(error).to_string());
            printer.line(&format!("port-forward connection error: {error}"));
        })?;
        for binding in bindings {
            printer.line(&format!("Forwarding {binding}"));
        }
        interrupts.next().await;
        Ok(0)
    })
}
