//! Entry point of the fuzz target `dockerfile`: what a stranger's repository brings to a build.

use super::error::SyntaxError;
use super::expand::expand;
use super::graph::plan;
use super::ignore::Ignore;
use super::instruction::Instruction;
use super::parse::{parse, parse_trigger};
use super::variables::Globals;

/// Reads the input as a Dockerfile and as an ignore file.
///
/// # Panics
/// When an error names a line that the file does not have, or a trigger that was accepted is not
/// accepted again.
pub fn dockerfile(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').count();
    if let Err(error) = read(input) {
        assert!((1..=lines).contains(&(error.at.line as usize)), "{error}: {}", error.problem);
    }
    if let Ok(ignore) = Ignore::parse(&input[..input.len().min(2000)]) {
        let hidden = ignore.hides(b"a/b.c");
        assert!(!ignore.hides(b"a") || hidden || ignore.has_exceptions());
    }
}

fn read(input: &[u8]) -> Result<(), SyntaxError> {
    let file = parse(&"Dockerfile".into(), input)?;
    let globals = Globals::new(&file, [("A".into(), "a".into())].into(), "amd64")?;
    let graph = plan(&file, None, &globals)?;
    assert!(graph.needed.contains_key(&(file.stages.len() - 1)));
    for step in file.stages.iter().flat_map(|stage| &stage.steps) {
        match &step.instruction {
            Instruction::Onbuild(text) if file.escape == '\\' => {
                assert!(parse_trigger(text).is_ok(), "{text:?}");
            }
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                for (_, value) in pairs {
                    let _any = expand(value, file.escape, &|name| globals.get(name));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
