//! RUN and its mounts.

use super::command;
use crate::error::Problem;
use crate::instruction::{Command, Instruction, Mount, Run, RunCommand};
use crate::source::Heredoc;
use crate::words;

pub(super) fn parse(
    rest: &str,
    heredocs: &[Heredoc],
    escape: char,
) -> Result<Instruction, Problem> {
    let (flags, rest) = words::flags(rest, escape)?;
    let mut run = Run { command: run_command(rest, heredocs)?, mounts: Vec::new(), network: true };
    for flag in flags {
        let text = flag.value.as_deref().unwrap_or_default();
        match flag.name.as_str() {
            "mount" => run.mounts.push(mount(text)?),
            "network" if text == "default" => {}
            "network" if text == "none" => run.network = false,
            "network" => {
                return Err(Problem::Unsupported {
                    what: format!("--network={text}"),
                    instead: "a step has the network that the build's policy allows, or none",
                });
            }
            "security" if text == "sandbox" => {}
            "security" | "device" => {
                return Err(Problem::needs_buildkit(format!("--{}={text}", flag.name)));
            }
            _ => return Err(Problem::UnknownFlag(flag.name.chars().take(40).collect())),
        }
    }
    Ok(Instruction::Run(Box::new(run)))
}

fn run_command(rest: &str, heredocs: &[Heredoc]) -> Result<RunCommand, Problem> {
    if rest.is_empty() {
        return Err(Problem::NoArgument);
    }
    match heredocs {
        [doc] if doc.marker == rest && doc.content.starts_with("#!") => {
            Ok(RunCommand::Script(doc.content.clone()))
        }
        [doc] if doc.marker == rest => Ok(RunCommand::Command(Command::Shell(doc.content.clone()))),
        [] => match command(rest)? {
            Command::Exec(list) if list.is_empty() => Err(Problem::NoArgument),
            command => Ok(RunCommand::Command(command)),
        },
        docs => {
            // The shell reads them as it would in a script.
            let mut text = rest.to_owned();
            for doc in docs {
                text.push('\n');
                text.push_str(&doc.content);
                text.push_str(&doc.name);
            }
            text.push('\n');
            Ok(RunCommand::Command(Command::Shell(text)))
        }
    }
}

/// `type=cache,target=/x,…`
fn mount(text: &str) -> Result<Mount, Problem> {
    let bad = |why: String| Problem::BadFlag { flag: "mount", why };
    let mut fields = Fields { kind: "bind".into(), source: "/".into(), ..Fields::default() };
    for field in text.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match name.to_ascii_lowercase().as_str() {
            "type" => fields.kind = value.to_owned(),
            "target" | "dst" | "destination" => fields.target = value.to_owned(),
            "source" | "src" => fields.source = value.to_owned(),
            "from" => fields.from = Some(value.to_owned()),
            "mode" => {
                let mode = u16::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                let mode = mode.ok_or_else(|| bad(format!("not a mode: {value:?}")))?;
                fields.mode = Some(mode);
            }
            "uid" | "gid" => {
                let id = value.parse().map_err(|_| bad(format!("not a number: {value:?}")))?;
                if name.eq_ignore_ascii_case("uid") { fields.uid = id } else { fields.gid = id }
            }
            "id" | "sharing" | "readonly" | "ro" | "readwrite" | "rw" | "size" | "required"
            | "env" => {}
            _ => return Err(bad(format!("unknown field {name:?}"))),
        }
    }
    fields.finish(bad)
}

#[derive(Default)]
struct Fields {
    kind: String,
    target: String,
    source: String,
    from: Option<String>,
    mode: Option<u16>,
    uid: u32,
    gid: u32,
}

impl Fields {
    fn finish(self, bad: impl Fn(String) -> Problem) -> Result<Mount, Problem> {
        let Self { kind, target, source, from, mode, uid, gid } = self;
        match kind.as_str() {
            "secret" | "ssh" => {
                return Err(Problem::needs_buildkit(format!("--mount=type={kind}")));
            }
            "bind" | "cache" | "tmpfs" => {}
            _ => return Err(bad(format!("unknown type {kind:?}"))),
        }
        if target.is_empty() {
            return Err(bad("target= is missing".to_owned()));
        }
        if kind == "bind" {
            if from.as_ref().is_some_and(|from| from.contains('$')) {
                return Err(bad("a variable cannot choose the stage".to_owned()));
            }
            return Ok(Mount::Bind { target, source, from });
        }
        if from.is_some() {
            return Err(Problem::needs_buildkit(format!("from= with type={kind}")));
        }
        // A directory for temporary files is everybody's.
        let usual = if kind == "tmpfs" { 0o1777 } else { 0o755 };
        Ok(Mount::Scratch { target, mode: mode.unwrap_or(usual), uid, gid })
    }
}
