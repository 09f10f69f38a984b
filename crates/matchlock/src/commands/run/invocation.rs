//! What is executed: the user's words, completed by what the image has of its own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use matchlock_core::images::RuntimeConfig;
use matchlock_core::{ExecRequest, Stdin, WindowSize};

use crate::cli::RunArgs;
use crate::environment::Environment;
use crate::error::CliError;
use crate::options::variables::{Variable, terminal_type};

/// What the arguments of `run` say about the program, before the image is known.
#[derive(Debug)]
pub(super) struct Invocation {
    /// `None`: the image's own. Empty: none at all.
    entrypoint: Option<OsString>,
    arguments: Vec<OsString>,
    env: Vec<Variable>,
    working_dir: Option<OsString>,
    user: Option<String>,
    stdin: Stdin,
    /// With `-it`: somebody sits there and wants a shell if nothing else.
    interactive: bool,
    /// With `--rm=false` there may be nothing to execute.
    keep: bool,
}

/// What an image runs when the user does not say what (OCI image spec, config.md, `Entrypoint` and
/// `Cmd`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ImageCommand<'a> {
    pub(super) entrypoint: &'a [String],
    pub(super) cmd: &'a [String],
    /// The shell for a terminal where neither image nor user names a program.
    pub(super) shell: Option<&'a str>,
}

impl ImageCommand<'static> {
    /// The host image has neither entrypoint nor command of its own.
    pub(super) fn of_host() -> Self {
        let bash = "/bin/bash";
        let shell = std::path::Path::new(bash).exists().then_some(bash);
        Self { entrypoint: &[], cmd: &[], shell }
    }
}

impl<'a> ImageCommand<'a> {
    /// What the configuration of an image says. Where there is a shell is not known before it runs.
    pub(super) fn of(config: &'a RuntimeConfig) -> Self {
        Self { entrypoint: &config.entrypoint, cmd: &config.cmd, shell: None }
    }
}

impl Invocation {
    pub(super) fn new(args: &RunArgs, environment: &Environment) -> Self {
        let interactive = args.interactive && args.tty;
        Self {
            entrypoint: args.entrypoint.clone(),
            arguments: args.command.command.clone(),
            env: if interactive { terminal_type(environment) } else { Vec::new() },
            working_dir: args.workdir.clone().filter(|dir| !dir.is_empty()),
            user: args.user.clone().filter(|user| !user.is_empty()),
            stdin: if args.interactive { Stdin::Pipe } else { Stdin::Null },
            interactive,
            keep: !args.rm,
        }
    }

    /// What to execute in `image`, on a terminal of this size if there is one. `None` only with
    /// `--rm=false`. What is absent of environment, directory and user is the image's.
    pub(super) fn complete(
        self,
        image: ImageCommand<'_>,
        tty: Option<WindowSize>,
    ) -> Result<Option<ExecRequest>, CliError> {
        let argv = self.argv(image);
        if argv.is_empty() {
            return if self.keep { Ok(None) } else { Err(no_command()) };
        }
        Ok(Some(ExecRequest {
            argv: argv.into_iter().map(OsString::into_vec).collect(),
            env: self.env,
            working_dir: self.working_dir.map(OsString::into_vec),
            user: self.user,
            stdin: self.stdin,
            tty,
        }))
    }

    /// Refuses what could not be executed in `image` either.
    pub(super) fn check(&self, image: ImageCommand<'_>) -> Result<(), CliError> {
        if self.argv(image).is_empty() && !self.keep { Err(no_command()) } else { Ok(()) }
    }

    /// ENTRYPOINT and arguments, or ENTRYPOINT and CMD when there are no arguments.
    fn argv(&self, image: ImageCommand<'_>) -> Vec<OsString> {
        let mut argv: Vec<OsString> = match &self.entrypoint {
            Some(word) if word.is_empty() => Vec::new(),
            Some(word) => vec![word.clone()],
            None => image.entrypoint.iter().map(OsString::from).collect(),
        };
        if self.arguments.is_empty() {
            argv.extend(image.cmd.iter().map(OsString::from));
        } else {
            argv.extend(self.arguments.iter().cloned());
        }
        if argv.is_empty() && self.interactive {
            argv.push(image.shell.unwrap_or("/bin/sh").into());
        }
        argv
    }
}

fn no_command() -> CliError {
    CliError::new("command required (or use --rm=false to start without a command)")
        .hinted("matchlock run --image IMAGE -- COMMAND")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::CommandArgs;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn invocation(entrypoint: Option<&str>, arguments: &[&str]) -> RunArgs {
        RunArgs {
            entrypoint: entrypoint.map(OsString::from),
            command: CommandArgs { command: arguments.iter().map(OsString::from).collect() },
            rm: true,
            ..RunArgs::default()
        }
    }

    fn argv(args: &RunArgs, image: ImageCommand<'_>) -> Vec<String> {
        let request = Invocation::new(args, &Environment::default()).complete(image, None);
        let request = request.expect("valid").expect("a program");
        request.argv.into_iter().map(|word| String::from_utf8(word).expect("UTF-8")).collect()
    }

    fn refusal(args: &RunArgs, image: ImageCommand<'_>) -> String {
        let invocation = Invocation::new(args, &Environment::default());
        let checked = invocation.check(image).expect_err("refused").to_string();
        let completed = invocation.complete(image, None).expect_err("refused").to_string();
        assert_eq!(checked, completed);
        completed
    }

    #[test]
    fn arguments_replace_the_images_command_and_follow_its_entrypoint() {
        let (entrypoint, cmd) = (words(&["/entry", "-v"]), words(&["serve", "--all"]));
        let both = ImageCommand { entrypoint: &entrypoint, cmd: &cmd, shell: None };
        let only_cmd = ImageCommand { entrypoint: &[], ..both };
        type Case<'a> = (Option<&'a str>, &'a [&'a str], ImageCommand<'a>, &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            (None, &[], both, &["/entry", "-v", "serve", "--all"]),
            (None, &["x"], both, &["/entry", "-v", "x"]),
            (None, &[], only_cmd, &["serve", "--all"]),
            (None, &["x"], only_cmd, &["x"]),
            (Some("sh"), &["-c", "y"], both, &["sh", "-c", "y"]),
            (Some("sh"), &[], both, &["sh", "serve", "--all"]),
            (Some(""), &["x"], both, &["x"]),
            (Some(""), &[], both, &["serve", "--all"]),
        ];
        for (entrypoint, arguments, image, expected) in cases {
            let args = invocation(entrypoint, arguments);
            assert_eq!(argv(&args, image), expected, "{entrypoint:?} {arguments:?}");
        }
    }

    #[test]
    fn nothing_to_execute_is_an_error_unless_the_sandbox_is_kept() {
        let none = ImageCommand::default();
        let says = "command required (or use --rm=false to start without a command)";
        assert_eq!(refusal(&invocation(None, &[]), none), says);
        let cleared = words(&["/entry"]);
        let image = ImageCommand { entrypoint: &cleared, ..none };
        assert_eq!(refusal(&invocation(Some(""), &[]), image), says);
        let kept = RunArgs { rm: false, ..invocation(None, &[]) };
        let kept = Invocation::new(&kept, &Environment::default());
        kept.check(none).expect("valid");
        assert_eq!(kept.complete(none, None).expect("valid"), None);
    }

    #[test]
    fn a_terminal_without_a_program_gets_a_shell() {
        let terminal = RunArgs { interactive: true, tty: true, ..invocation(None, &[]) };
        let cmd = words(&["python3"]);
        let none = ImageCommand::default();
        assert_eq!(argv(&terminal, none), ["/bin/sh"]);
        assert_eq!(
            argv(&terminal, ImageCommand { shell: Some("/bin/bash"), ..none }),
            ["/bin/bash"]
        );
        assert_eq!(argv(&terminal, ImageCommand { cmd: &cmd, ..none }), ["python3"]);
        let pipe = RunArgs { interactive: true, ..invocation(None, &[]) };
        refusal(&pipe, none);
    }

    #[test]
    fn what_is_not_given_is_left_to_the_image() {
        let complete = |args: &RunArgs, tty| {
            let mut environment = Environment::default();
            environment.term = Some("vt220".into());
            let request = Invocation::new(args, &environment);
            request.complete(ImageCommand::default(), tty).expect("valid").expect("a program")
        };
        let bare = complete(&invocation(None, &["x"]), None);
        assert_eq!((bare.working_dir, bare.user, bare.stdin), (None, None, Stdin::Null));
        assert!(bare.env.is_empty() && bare.tty.is_none());
        let empty = RunArgs {
            workdir: Some(OsString::new()),
            user: Some(String::new()),
            ..invocation(None, &["x"])
        };
        assert_eq!(complete(&empty, None).working_dir, None, "empty is not given");
        assert_eq!(complete(&empty, None).user, None);
        let given = RunArgs {
            workdir: Some("/srv".into()),
            user: Some("web".into()),
            interactive: true,
            tty: true,
            ..invocation(None, &["x"])
        };
        let size = WindowSize { rows: 5, cols: 6 };
        let given = complete(&given, Some(size));
        assert_eq!(given.working_dir.as_deref(), Some(&b"/srv"[..]));
        assert_eq!((given.user.as_deref(), given.tty), (Some("web"), Some(size)));
        assert_eq!(given.stdin, Stdin::Pipe);
        assert_eq!(given.env, [(b"TERM".to_vec(), b"vt220".to_vec())]);
    }
}
