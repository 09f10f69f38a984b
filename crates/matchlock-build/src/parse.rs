//! From lines to instructions. Each error names its line.

mod copy;
mod run;

use std::sync::Arc;

use matchlock_text::duration;

use super::error::{At, Problem, SyntaxError};
use super::expand::is_name;
use super::instruction::{Argument, Command, Dockerfile, Healthcheck, Instruction, Stage, Step};
use super::source::{self, Heredoc, Raw};
use super::words::{self, Flag};

/// Reads a Dockerfile; `file` is its name in errors.
pub(crate) fn parse(file: &Arc<str>, bytes: &[u8]) -> Result<Dockerfile, SyntaxError> {
    let source = source::split(bytes).map_err(|trouble| SyntaxError {
        at: At::new(file, trouble.line, ""),
        problem: trouble.problem,
    })?;
    let mut read = Dockerfile { escape: source.escape, globals: Vec::new(), stages: Vec::new() };
    for raw in source.instructions {
        let at = At::new(file, raw.line, &format!("{} {}", raw.keyword, raw.rest));
        if let Err(problem) = add(&mut read, &raw, &at) {
            return Err(SyntaxError { at, problem });
        }
    }
    if read.stages.is_empty() {
        return Err(SyntaxError { at: At::new(file, 1, ""), problem: Problem::NoStage });
    }
    Ok(read)
}

/// Reads the text of a trigger, which an image carries.
pub(crate) fn parse_trigger(text: &str) -> Result<Instruction, Problem> {
    let source = source::split(text.as_bytes()).map_err(|trouble| trouble.problem)?;
    match source.instructions.as_slice() {
        [raw] if trigger_fits(&raw.keyword) => instruction(raw, source.escape),
        _ => Err(Problem::BadTrigger(text.chars().take(80).collect())),
    }
}

fn add(read: &mut Dockerfile, raw: &Raw, at: &At) -> Result<(), Problem> {
    if raw.keyword == "FROM" {
        let stage = from(raw, at.clone(), read.escape)?;
        if let Some(name) = &stage.name
            && read.stages.iter().any(|other| other.name.as_ref() == Some(name))
        {
            return Err(Problem::RepeatedStage(name.clone()));
        }
        read.stages.push(stage);
        return Ok(());
    }
    let instruction = instruction(raw, read.escape)?;
    match (read.stages.last_mut(), instruction) {
        (Some(stage), instruction) => {
            let text = format!("{} {}", raw.keyword, raw.rest);
            stage.steps.push(Step { at: at.clone(), text, instruction });
        }
        (None, Instruction::Arg(names)) => read.globals.push((at.clone(), names)),
        (None, _) => return Err(Problem::BeforeFrom),
    }
    Ok(())
}

fn from(raw: &Raw, at: At, escape: char) -> Result<Stage, Problem> {
    let (flags, rest) = words::flags(&raw.rest, escape)?;
    let [platform] = take(flags, ["platform"])?;
    let words = words::split(rest, escape);
    let (from, name) = match words.as_slice() {
        [from] => (from, None),
        [from, word, name] if word.eq_ignore_ascii_case("as") => (from, Some(stage_name(name)?)),
        _ => return Err(Problem::Expected("FROM [--platform=PLATFORM] IMAGE [AS NAME]")),
    };
    let platform = platform.map(|flag| value("platform", flag)).transpose()?;
    Ok(Stage { at, from: from.clone(), platform, name, steps: Vec::new() })
}

fn stage_name(text: &str) -> Result<String, Problem> {
    let name = text.to_ascii_lowercase();
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fit = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(word);
    if fit && !matches!(name.as_str(), "scratch" | "context") {
        Ok(name)
    } else {
        Err(Problem::BadStageName(text.chars().take(80).collect()))
    }
}

fn instruction(raw: &Raw, escape: char) -> Result<Instruction, Problem> {
    let rest = raw.rest.as_str();
    if rest.contains('\0') || raw.heredocs.iter().any(|doc| doc.content.contains('\0')) {
        return Err(Problem::Nul);
    }
    if rest.is_empty()
        && !matches!(raw.keyword.as_str(), "CMD" | "ENTRYPOINT")
        && known(&raw.keyword)
    {
        return Err(Problem::NoArgument);
    }
    Ok(match raw.keyword.as_str() {
        "ADD" => copy::parse(rest, &raw.heredocs, escape, true)?,
        "ARG" => Instruction::Arg(arguments(rest, escape)?),
        "CMD" => Instruction::Cmd(command(rest)?),
        "COPY" => copy::parse(rest, &raw.heredocs, escape, false)?,
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)?),
        "ENV" => Instruction::Env(pairs(rest, escape, "ENV NAME=VALUE …")?),
        "EXPOSE" => Instruction::Expose(words::split(rest, escape)),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(rest, escape)?),
        "LABEL" => Instruction::Label(pairs(rest, escape, "LABEL NAME=VALUE …")?),
        "MAINTAINER" => Instruction::Maintainer(rest.to_owned()),
        "ONBUILD" => trigger(rest, &raw.heredocs, escape)?,
        "RUN" => run::parse(rest, &raw.heredocs, escape)?,
        "SHELL" => match words::json_list(rest)? {
            Some(list) if !list.is_empty() => Instruction::Shell(list),
            _ => return Err(Problem::Expected("SHELL [\"EXECUTABLE\", \"ARGUMENT\", …]")),
        },
        "STOPSIGNAL" => Instruction::StopSignal(rest.to_owned()),
        "USER" => Instruction::User(rest.to_owned()),
        "VOLUME" => Instruction::Volume(match words::json_list(rest)? {
            Some(list) if !list.is_empty() => list,
            Some(_) => return Err(Problem::NoArgument),
            None => words::split(rest, escape),
        }),
        "WORKDIR" => Instruction::Workdir(rest.to_owned()),
        other => return Err(Problem::UnknownInstruction(other.chars().take(40).collect())),
    })
}

fn known(keyword: &str) -> bool {
    const NEED_AN_ARGUMENT: [&str; 14] = [
        "ADD",
        "ARG",
        "COPY",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
    ];
    keyword == "WORKDIR" || NEED_AN_ARGUMENT.contains(&keyword)
}

fn command(rest: &str) -> Result<Command, Problem> {
    Ok(match words::json_list(rest)? {
        Some(list) => Command::Exec(list),
        None if rest.is_empty() => Command::Exec(Vec::new()),
        None => Command::Shell(rest.to_owned()),
    })
}

fn arguments(rest: &str, escape: char) -> Result<Vec<Argument>, Problem> {
    let words = words::split(rest, escape);
    let split = words.iter().map(|word| match word.split_once('=') {
        Some((name, value)) => Ok((variable(name)?, Some(value.to_owned()))),
        None => Ok((variable(word)?, None)),
    });
    split.collect()
}

fn variable(name: &str) -> Result<String, Problem> {
    let bad = || Problem::BadVariable(name.chars().take(80).collect());
    is_name(name).then(|| name.to_owned()).ok_or_else(bad)
}

/// `a=b c="d e"`, or the old form `a the rest`.
fn pairs(rest: &str, escape: char, usage: &'static str) -> Result<Vec<(String, String)>, Problem> {
    let words = words::split(rest, escape);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) = rest.split_once(char::is_whitespace).ok_or(Problem::Expected(usage))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let split = words.iter().map(|word| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Problem::Expected(usage)),
    });
    split.collect()
}

fn trigger_fits(keyword: &str) -> bool {
    !matches!(keyword, "ONBUILD" | "FROM" | "MAINTAINER")
}

/// Kept as text, with its here-documents; checked now, so that a mistake is found where it is written.
fn trigger(rest: &str, heredocs: &[Heredoc], escape: char) -> Result<Instruction, Problem> {
    let (keyword, inner) = source::keyword(rest);
    if !trigger_fits(&keyword) {
        return Err(Problem::BadTrigger(keyword));
    }
    let raw = Raw { line: 0, keyword, rest: inner.to_owned(), heredocs: heredocs.to_vec() };
    instruction(&raw, escape)?;
    let mut text = rest.to_owned();
    for doc in heredocs {
        text.push('\n');
        text.push_str(&doc.content);
        text.push_str(&doc.name);
    }
    Ok(Instruction::Onbuild(text))
}

fn healthcheck(rest: &str, escape: char) -> Result<Healthcheck, Problem> {
    const USAGE: Problem =
        Problem::Expected("HEALTHCHECK [FLAGS] CMD COMMAND, or HEALTHCHECK NONE");
    let (flags, rest) = words::flags(rest, escape)?;
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let [interval, timeout, start_period, start_interval, retries] = take(flags, names)?;
    let (keyword, rest) = source::keyword(rest);
    match keyword.as_str() {
        "NONE" if rest.is_empty() => Ok(Healthcheck::None),
        "CMD" if !rest.is_empty() => {
            let time = |name, flag: Option<Option<String>>| {
                flag.map(|flag| {
                    let text = value(name, flag)?;
                    let bad = || Problem::BadDuration(text.chars().take(40).collect());
                    duration::parse(&text).ok_or_else(bad)
                })
                .transpose()
            };
            let retries = retries.map(|flag| {
                let text = value("retries", flag)?;
                let bad = |_| Problem::BadValue { what: "a number", value: text.clone() };
                text.parse().map_err(bad)
            });
            Ok(Healthcheck::Test {
                command: command(rest)?,
                interval: time("interval", interval)?,
                timeout: time("timeout", timeout)?,
                start_period: time("start-period", start_period)?,
                start_interval: time("start-interval", start_interval)?,
                retries: retries.transpose()?,
            })
        }
        _ => Err(USAGE),
    }
}

/// Sorts flags by name; each once, no others.
fn take<const N: usize>(
    flags: Vec<Flag>,
    names: [&'static str; N],
) -> Result<[Option<Option<String>>; N], Problem> {
    let mut taken = [const { None }; N];
    for flag in flags {
        let Some(at) = names.iter().position(|name| *name == flag.name) else {
            return Err(Problem::UnknownFlag(flag.name.chars().take(40).collect()));
        };
        if taken[at].replace(flag.value).is_some() {
            return Err(Problem::RepeatedFlag(flag.name));
        }
    }
    Ok(taken)
}

/// A flag that needs a value.
fn value(name: &'static str, flag: Option<String>) -> Result<String, Problem> {
    flag.filter(|value| !value.is_empty())
        .ok_or_else(|| Problem::BadFlag { flag: name, why: "a value is missing".to_owned() })
}

#[cfg(test)]
mod tests;
