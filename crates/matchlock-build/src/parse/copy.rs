//! COPY and ADD.

use super::{take, value};
use crate::error::Problem;
use crate::instruction::{Copy, Instruction};
use crate::source::Heredoc;
use crate::words;

const USAGE: Problem = Problem::Expected("SOURCE … DESTINATION");

pub(super) fn parse(
    rest: &str,
    heredocs: &[Heredoc],
    escape: char,
    add: bool,
) -> Result<Instruction, Problem> {
    let (mut flags, rest) = words::flags(rest, escape)?;
    let later = |name: &str| match name {
        "parents" | "exclude" => true,
        "checksum" | "keep-git-dir" | "unpack" => add,
        _ => false,
    };
    if let Some(flag) = flags.iter().find(|flag| later(&flag.name)) {
        return Err(Problem::needs_buildkit(format!("--{}", flag.name)));
    }
    if add && flags.iter().any(|flag| flag.name == "from") {
        return Err(Problem::UnknownFlag("from".to_owned()));
    }
    // A layer of its own is what each COPY makes here anyway.
    flags.retain(|flag| flag.name != "link");
    let [from, chown, chmod] = take(flags, ["from", "chown", "chmod"])?;
    let from = from.map(|flag| value("from", flag)).transpose()?;
    if from.as_ref().is_some_and(|from| from.contains('$')) {
        let why = "a variable cannot choose the stage; give it a name with FROM $NAME AS stage";
        return Err(Problem::BadFlag { flag: "from", why: why.to_owned() });
    }
    let mut words = match words::json_list(rest)? {
        Some(list) => list,
        None => words::split(rest, escape),
    };
    let destination = words.pop().ok_or(USAGE)?;
    let (mut sources, mut inline) = (Vec::new(), Vec::new());
    for word in words {
        match heredocs.iter().find(|doc| doc.marker == word) {
            Some(doc) => inline.push(doc.clone()),
            None => sources.push(word),
        }
    }
    if sources.is_empty() && inline.is_empty() || destination.is_empty() {
        return Err(USAGE);
    }
    if !inline.is_empty() && from.is_some() {
        let why = "a here-document is part of this file, not of another stage".to_owned();
        return Err(Problem::BadFlag { flag: "from", why });
    }
    Ok(Instruction::Copy(Box::new(Copy {
        add,
        sources,
        inline,
        destination,
        from,
        chown: chown.map(|flag| value("chown", flag)).transpose()?,
        chmod: chmod.map(|flag| value("chmod", flag)).transpose()?,
    })))
}
