//! Which stages are needed, in which order, and what they are built from.

use std::collections::BTreeMap;

use super::error::{At, Problem, SyntaxError};
use super::expand::expand;
use super::instruction::{Dockerfile, Stage};
use super::variables::Globals;

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// A stage above.
    Stage(usize),
    /// An image, as it is written once its variables are replaced.
    Image(String),
}

/// Where files of another place come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A stage above.
    Stage(usize),
    /// An image.
    Image(String),
}

/// The stages to build.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    /// Stages that are needed, by their number, each with its base; the last one is the target.
    pub(crate) needed: BTreeMap<usize, Base>,
    /// Images, each with the place of its first use.
    pub(crate) images: Vec<(String, At)>,
}

/// Finds what `target` needs; without one the last stage is it.
pub(crate) fn plan(
    file: &Dockerfile,
    target: Option<&str>,
    globals: &Globals,
) -> Result<Graph, SyntaxError> {
    let last = match target {
        None => file.stages.len() - 1,
        Some(name) => stage_named(&file.stages, file.stages.len(), name).ok_or_else(|| {
            let at = At { text: String::new(), ..file.stages[0].at.clone() };
            SyntaxError { at, problem: Problem::NoSuchStage(name.to_owned()) }
        })?,
    };
    let mut graph = Graph { needed: BTreeMap::new(), images: Vec::new() };
    let mut open = vec![last];
    while let Some(number) = open.pop() {
        if graph.needed.contains_key(&number) {
            continue;
        }
        let stage = &file.stages[number];
        let fail = |problem| SyntaxError { at: stage.at.clone(), problem };
        check_platform(stage, file.escape, globals).map_err(fail)?;
        let base = base(file, number, globals).map_err(fail)?;
        match &base {
            Base::Stage(below) => open.push(*below),
            Base::Image(name) => graph.image(name, &stage.at),
            Base::Scratch => {}
        }
        graph.needed.insert(number, base);
        for step in &stage.steps {
            for from in step.instruction.sources() {
                let found = origin(&file.stages, number, from);
                match found.map_err(|problem| SyntaxError { at: step.at.clone(), problem })? {
                    Origin::Stage(below) => open.push(below),
                    Origin::Image(name) => graph.image(&name, &step.at),
                }
            }
        }
    }
    Ok(graph)
}

/// What `--from` in the stage `number` names.
pub(crate) fn origin(stages: &[Stage], number: usize, from: &str) -> Result<Origin, Problem> {
    if let Some(found) = stage_named(stages, number, from) {
        return Ok(Origin::Stage(found));
    }
    let later = from.parse::<usize>().is_ok() || stage_named(stages, stages.len(), from).is_some();
    if later {
        Err(Problem::LaterStage(from.to_owned()))
    } else {
        Ok(Origin::Image(from.to_owned()))
    }
}

/// A stage before `end` by its name or number.
fn stage_named(stages: &[Stage], end: usize, name: &str) -> Option<usize> {
    let lower = name.to_ascii_lowercase();
    let named = stages[..end].iter().position(|stage| stage.name.as_deref() == Some(&*lower));
    named.or_else(|| name.parse().ok().filter(|number| *number < end))
}

fn base(file: &Dockerfile, number: usize, globals: &Globals) -> Result<Base, Problem> {
    let stage = &file.stages[number];
    let name = expand(&stage.from, file.escape, &|name| globals.get(name))?;
    if name.is_empty() {
        let value = stage.from.clone();
        return Err(Problem::BadValue {
            what: "an image: the variables give an empty name",
            value,
        });
    }
    if name == "scratch" {
        return Ok(Base::Scratch);
    }
    let lower = name.to_ascii_lowercase();
    let above = &file.stages[..number];
    Ok(match above.iter().position(|stage| stage.name.as_deref() == Some(&*lower)) {
        Some(below) => Base::Stage(below),
        None => Base::Image(name),
    })
}

fn check_platform(stage: &Stage, escape: char, globals: &Globals) -> Result<(), Problem> {
    let Some(platform) = &stage.platform else { return Ok(()) };
    let wanted = expand(platform, escape, &|name| globals.get(name))?;
    let fits = wanted == globals.platform()
        || globals.platform().strip_prefix("linux/") == Some(&*wanted)
        || wanted == format!("{}/v8", globals.platform()) && wanted.starts_with("linux/arm64");
    if fits {
        return Ok(());
    }
    Err(Problem::Unsupported {
        what: format!("the platform {wanted:?}"),
        instead: "steps run on this host's processor only",
    })
}

impl Graph {
    fn image(&mut self, name: &str, at: &At) {
        if self.images.iter().all(|(known, _)| known != name) {
            self.images.push((name.to_owned(), at.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use proptest::prelude::*;

    fn graph(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Result<Graph, String> {
        let file = parse(&"D".into(), text.as_bytes()).expect(text);
        let args = args.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let globals = Globals::new(&file, args, "amd64").map_err(|error| error.to_string())?;
        plan(&file, target, &globals).map_err(|error| format!("{error}: {}", error.problem))
    }

    fn needed(text: &str, target: Option<&str>) -> Vec<usize> {
        graph(text, target, &[]).expect(text).needed.into_keys().collect()
    }

    const FILE: &str = "FROM a AS base\nFROM base AS x\nFROM b AS y\nFROM base AS z\n\
                        COPY --from=x / /\nFROM scratch\nCOPY --from=2 / /\nRUN --mount=from=img,target=/m c\n";

    #[test]
    fn only_what_the_target_needs_is_built() {
        assert_eq!(needed(FILE, None), [2, 4]);
        assert_eq!(needed(FILE, Some("Z")), [0, 1, 3]);
        assert_eq!(needed(FILE, Some("0")), [0]);
        let images = graph(FILE, None, &[]).expect("a graph").images;
        let images: Vec<_> = images.iter().map(|(name, at)| (name.as_str(), at.line)).collect();
        assert_eq!(images, [("img", 8), ("b", 3)]);
        assert_eq!(
            graph(FILE, Some("nope"), &[]),
            Err("D:1: no stage \"nope\" in the file".into())
        );
    }

    #[test]
    fn names_of_stages_hide_images_only_below_them() {
        let graph = graph("FROM x AS y\nFROM y AS x\nFROM x", None, &[]).expect("a graph");
        let bases: Vec<_> = graph.needed.into_values().collect();
        assert_eq!(bases, [Base::Image("x".into()), Base::Stage(0), Base::Stage(1)]);
    }

    #[test]
    fn a_stage_cannot_use_itself_or_one_below() {
        for (text, line) in [
            ("FROM a AS x\nCOPY --from=x / /", "D:2"),
            ("FROM a\nCOPY --from=1 / /\nFROM b\nCOPY --from=0 / /", "D:2"),
            ("FROM a\nCOPY --from=later / /\nFROM b AS later\nCOPY --from=0 / /", "D:2"),
        ] {
            let error = graph(text, None, &[]).expect_err(text);
            assert!(error.starts_with(line) && error.contains("not defined before"), "{error}");
        }
    }

    #[test]
    fn arguments_choose_images_and_stages() {
        let text = "ARG V=1\nARG B=img:${V}\nFROM a AS one\nFROM $B";
        assert_eq!(
            graph(text, None, &[]).expect("a graph").needed[&1],
            Base::Image("img:1".into())
        );
        assert_eq!(
            graph(text, None, &[("V", "2")]).expect("a graph").needed[&1],
            Base::Image("img:2".into())
        );
        assert_eq!(graph(text, None, &[("B", "one")]).expect("a graph").needed[&1], Base::Stage(0));
        assert!(graph("FROM $NONE", None, &[]).expect_err("no name").contains("empty name"));
    }

    #[test]
    fn the_platform_is_the_hosts() {
        for fits in ["linux/amd64", "$BUILDPLATFORM", "$TARGETPLATFORM", "linux/$TARGETARCH"] {
            assert!(graph(&format!("FROM --platform={fits} a"), None, &[]).is_ok(), "{fits}");
        }
        let error = graph("FROM --platform=linux/s390x a", None, &[]).expect_err("another one");
        assert!(error.contains("linux/s390x"), "{error}");
    }

    proptest! {
        #[test]
        fn every_needed_stage_is_above_what_needs_it(
            picks in prop::collection::vec((0_usize..12, 0_usize..12), 1..12)
        ) {
            let mut text = String::new();
            for (at, (base, from)) in picks.iter().enumerate() {
                let base = if at == 0 { "img".into() } else { format!("s{}", base % at) };
                text += &format!("FROM {base} AS s{at}\n");
                if at > 0 {
                    text += &format!("COPY --from={} / /\n", from % at);
                }
            }
            let graph = graph(&text, None, &[]).expect("a graph");
            let last = picks.len() - 1;
            prop_assert!(graph.needed.contains_key(&last));
            for (number, base) in &graph.needed {
                if let Base::Stage(below) = base {
                    prop_assert!(below < number && graph.needed.contains_key(below));
                }
            }
        }
    }
}
