//! `matchlock exec`: a program in a sandbox that runs.

use matchlock_core::WindowSize;
use matchlock_core::control::{Arg, ClientError, Program, RunParams, Streams, TtySize};

use super::enter::{Running, describe};
use super::pump::{self, Abandoned};
use crate::cli::ExecArgs;
use crate::environment::Environment;
use crate::error::{CliError, Kind, OUTPUT_CLOSED};
use crate::event_loop::block_on;
use crate::options::variables::{self, Variable};
use crate::signals::Interrupts;
use crate::terminal::Terminal;

/// What looks for a shell when a terminal is given no command.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash; exec sh";

pub(crate) fn run(args: &ExecArgs, environment: &Environment) -> Result<u8, CliError> {
    let interactive = args.interactive && args.tty;
    if args.command.command.is_empty() && !interactive {
        let error = CliError::new("command required (or use -it for interactive mode)");
        return Err(error.hinted("matchlock exec ID -- COMMAND"));
    }
    let terminal = interactive.then(Terminal::required).transpose()?;
    let params = params(args, terminal.as_ref(), environment)?;
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            ended = execute(&args.sandbox, params, terminal.as_ref(), environment) => ended,
            // The connection goes, and the program with it.
            signal = interrupts.next() => Err(CliError::interrupted(signal)),
        }
    })
}

fn params(
    args: &ExecArgs,
    terminal: Option<&Terminal>,
    environment: &Environment,
) -> Result<RunParams, CliError> {
    let mut env = variables::collect(&[], &args.env, &|name| std::env::var_os(name))?;
    if terminal.is_some() {
        env.splice(0..0, variables::terminal_type(environment));
    }
    let env = env.into_iter().map(|(name, value): Variable| {
        let name = String::from_utf8(name)
            .map_err(|_| CliError::new("the name of an environment variable is not UTF-8"))?;
        Ok((name, Arg::from(value)))
    });
    let argv = match args.command.command.as_slice() {
        [] => ["sh", "-c", SHELL].into_iter().map(|word| Arg::Text(word.into())).collect(),
        words => words.iter().cloned().map(Arg::from).collect(),
    };
    Ok(RunParams {
        argv,
        working_dir: args.workdir.clone().filter(|dir| !dir.is_empty()).map(Arg::from),
        user: args.user.clone().filter(|user| !user.is_empty()),
        env: env.collect::<Result<_, CliError>>()?,
        stdin: args.interactive,
        tty: terminal.map(|terminal| size(terminal.size())),
    })
}

fn size(WindowSize { rows, cols }: WindowSize) -> TtySize {
    TtySize { rows, cols }
}

async fn execute(
    wanted: &str,
    params: RunParams,
    terminal: Option<&Terminal>,
    environment: &Environment,
) -> Result<u8, CliError> {
    let sandbox = Running::find(wanted, environment).await?;
    let connection = sandbox.connect().await?;
    let started = connection.run(params).await;
    let (program, streams) = started.map_err(|error| not_started(&error))?;
    attend(program, streams, terminal).await
}

/// Copies the program's streams to their ends.
async fn attend(
    mut program: Program,
    streams: Streams,
    terminal: Option<&Terminal>,
) -> Result<u8, CliError> {
    let raw = terminal.map(Terminal::raw).transpose();
    // Held to the end of this function: every way out restores the terminal.
    let _raw = raw.map_err(|error| CliError::of_io("cannot set the terminal", &error))?;
    let Streams { stdin, stdout, stderr } = streams;
    // A task of its own: a read of a terminal cannot be cancelled, only abandoned.
    let feeding =
        Abandoned(stdin.map(|stdin| tokio::spawn(pump::input(tokio::io::stdin(), stdin))));
    let copying = async {
        tokio::try_join!(
            pump::output(stdout, tokio::io::stdout(), || {}),
            pump::output(stderr, tokio::io::stderr(), || {}),
        )
    };
    let resizing = async {
        if let Some(terminal) = terminal {
            pump::sizes(terminal, |to| program.resize(size(to))).await;
        }
        std::future::pending::<()>().await;
    };
    let copied = tokio::select! {
        copied = copying => copied,
        () = resizing => return Err(CliError::new("the terminal is gone").of_kind(Kind::Io)),
    };
    drop(feeding);
    match copied {
        Ok(_) => {
            let ended = program.wait().await.map_err(|error| describe(&error))?;
            Ok(u8::try_from(ended.exit_code).unwrap_or(u8::MAX))
        }
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(OUTPUT_CLOSED),
        Err(error) => Err(CliError::of_io("cannot write the command's output", &error)),
    }
}

/// Statuses of a program that cannot be started are those of a shell.
fn not_started(error: &ClientError) -> CliError {
    let told = describe(error).context("executing command");
    match error {
        ClientError::Refused(refused) if refused.kind() == Some(Kind::NotFound) => {
            told.with_status(127)
        }
        _ => told,
    }
}
