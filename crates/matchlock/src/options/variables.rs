//! Environment variables for the guest: `-e` and `--env-file`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::environment::Environment;
use crate::error::CliError;

/// A variable: name and value.
pub(crate) type Variable = (Vec<u8>, Vec<u8>);

/// All variables in order: the files' first, then the flags'; later ones win.
pub(crate) fn collect(
    files: &[OsString],
    flags: &[OsString],
    lookup: &dyn Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<Variable>, CliError> {
    let mut variables = Vec::new();
    for file in files {
        read_file(file, lookup, &mut variables)?;
    }
    for flag in flags {
        variables.push(
            parse(flag.as_bytes(), lookup)
                .map_err(|error| error.context("invalid environment variable"))?,
        );
    }
    Ok(variables)
}

/// Programs on a terminal need its type; ours is the one that will draw.
pub(crate) fn terminal_type(environment: &Environment) -> Vec<Variable> {
    let term = environment.term.clone().unwrap_or_else(|| "xterm".into());
    vec![(b"TERM".to_vec(), term.into_vec())]
}

fn read_file(
    file: &OsStr,
    lookup: &dyn Fn(&OsStr) -> Option<OsString>,
    variables: &mut Vec<Variable>,
) -> Result<(), CliError> {
    let name = file.to_string_lossy();
    let content = std::fs::read(file)
        .map_err(|error| CliError::of_io(format!("cannot read env file {name}"), &error))?;
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let at = format!("parse env file line {name}:{}", index + 1);
        variables.push(parse(line, lookup).map_err(|error| error.context(&at))?);
    }
    Ok(())
}

/// `KEY=VALUE`, or `KEY` to copy the value from here.
fn parse(text: &[u8], lookup: &dyn Fn(&OsStr) -> Option<OsString>) -> Result<Variable, CliError> {
    let equals = text.iter().position(|&byte| byte == b'=');
    let (name, value) = match equals {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    };
    let name = name.trim_ascii();
    if name.is_empty() {
        return Err(CliError::new("the name is empty").hinted("use -e KEY=VALUE or -e KEY"));
    }
    // execve(2) ends a variable at a NUL.
    if text.contains(&0) {
        return Err(CliError::new("it contains a NUL byte"));
    }
    let shown = String::from_utf8_lossy(name);
    match value {
        Some(value) => Ok((name.to_vec(), value.to_vec())),
        None => match lookup(OsStr::from_bytes(name)) {
            Some(value) => Ok((name.to_vec(), value.into_vec())),
            None => Err(CliError::new(format!("environment variable is not set ${shown}"))
                .hinted(format!("set it, or give its value: -e {shown}=VALUE"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn here(name: &OsStr) -> Option<OsString> {
        (name == "HERE").then(|| "from here".into())
    }

    fn pairs(variables: &[Variable]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        variables.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    #[test]
    fn files_come_before_flags_and_each_keeps_its_order() {
        let mut file = tempfile::NamedTempFile::new().expect("tempfile");
        write!(file, "# comment\n\n  A=1 \nHERE\nB=x=y\r\n").expect("write");
        let files = [file.path().as_os_str().to_owned()];
        let flags = ["A=2".into(), " C =3 ".into()];
        let variables = collect(&files, &flags, &here).expect("valid");
        assert_eq!(pairs(&variables), ["A=1", "HERE=from here", "B=x=y", "A=2", "C=3 "]);
    }

    #[test]
    fn errors_say_where() {
        let error = collect(&[], &["ABSENT".into()], &here).expect_err("not set");
        assert_eq!(
            error.message(),
            "invalid environment variable: environment variable is not set $ABSENT"
        );
        let mut file = tempfile::NamedTempFile::new().expect("tempfile");
        write!(file, "A=1\n=2\n").expect("write");
        let error = collect(&[file.path().into()], &[], &here).expect_err("no name");
        let at = format!("parse env file line {}:2: the name is empty", file.path().display());
        assert_eq!(error.message(), at);
        assert!(collect(&["/nonexistent".into()], &[], &here).is_err());
    }
}
