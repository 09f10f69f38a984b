//! One stage: its instructions change the configuration or add layers.

use std::sync::atomic::Ordering;

use super::copy::{Destination, Plan, globs};
use super::error::{Problem, StepError};
use super::execute::{Build, Finished};
use super::expand::{expand, expand_text};
use super::files::Files;
use super::graph::{Origin, origin};
use super::instruction::{Copy, Instruction, Step};
use super::key::Key;
use super::request::{BuildEvent, Runner};
use super::root::Root;
use super::state::State;
use super::variables::Arguments;
use matchlock_image::digest::Digest;
use matchlock_image::layer::{Builder, Layer};
use matchlock_image::store::Cached;
use matchlock_image::tree::Attributes;

/// A stage while it is carried out.
pub(crate) struct Stage {
    /// Lowest first; the lease has them.
    pub(crate) layers: Vec<Digest>,
    pub(crate) state: State,
    pub(crate) arguments: Arguments,
    /// Its place in the file.
    pub(crate) number: usize,
    /// The merged layers, once somebody asked.
    pub(crate) root: Option<Root>,
}

impl Stage {
    /// Carries out one instruction.
    pub(crate) async fn carry_out<R: Runner>(
        &mut self,
        build: &Build<'_>,
        step: &Step,
        runner: &mut R,
    ) -> Result<(), StepError> {
        let layer = match &step.instruction {
            Instruction::Run(run) => self.run(build, run, &step.at, runner).await?,
            Instruction::Copy(copy) => self.copy(build, copy)?,
            Instruction::Workdir(path) => self.workdir(build, path)?,
            other => {
                self.configure(build, other)?;
                false
            }
        };
        self.state.add_history(&step.text, layer, build.request.now);
        Ok(())
    }

    /// What changes the configuration only.
    fn configure(&mut self, build: &Build<'_>, instruction: &Instruction) -> Result<(), StepError> {
        match instruction {
            Instruction::Arg(names) => {
                for (name, default) in names {
                    let default =
                        default.as_ref().map(|text| self.word(build, text)).transpose()?;
                    self.arguments.declare(&build.globals, name, default);
                }
            }
            Instruction::Env(pairs) => {
                for (name, value) in self.pairs(build, pairs)? {
                    if name.is_empty() || name.contains('=') {
                        return Err(Problem::BadVariable(name).into());
                    }
                    self.state.set_env(&name, value);
                }
            }
            Instruction::Label(pairs) => {
                for (name, value) in self.pairs(build, pairs)? {
                    self.state.set_label(name, value);
                }
            }
            Instruction::Cmd(command) => self.state.set_cmd(command),
            Instruction::Entrypoint(command) => self.state.set_entrypoint(command),
            Instruction::Shell(shell) => self.state.set_shell(shell),
            Instruction::Healthcheck(check) => self.state.set_healthcheck(check),
            Instruction::Maintainer(author) => self.state.set_author(author),
            Instruction::Onbuild(text) => self.state.add_trigger(text),
            Instruction::StopSignal(text) => {
                let text = self.word(build, text)?;
                self.state.set_stop_signal(&text)?;
            }
            Instruction::User(text) => {
                let user = self.word(build, text)?;
                if user.is_empty() || user.contains(char::is_whitespace) {
                    return Err(Problem::BadValue { what: "a user", value: user }.into());
                }
                self.state.set_user(user);
            }
            Instruction::Expose(words) => {
                for word in words {
                    for port in self.word(build, word)?.split_whitespace() {
                        self.state.expose(port)?;
                    }
                }
            }
            Instruction::Volume(words) => {
                for word in words {
                    let path = self.word(build, word)?;
                    if path.is_empty() {
                        return Err(
                            Problem::BadValue { what: "a path", value: word.clone() }.into()
                        );
                    }
                    self.state.add_volume(path);
                }
            }
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_) => {}
        }
        Ok(())
    }

    /// Replaces variables: ENV wins over ARG.
    pub(crate) fn word(&self, build: &Build<'_>, text: &str) -> Result<String, Problem> {
        let value = expand(text, build.file.escape, &|name| self.variable(name))?;
        if value.contains('\0') { Err(Problem::Nul) } else { Ok(value) }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.state.env_value(name).or_else(|| self.arguments.get(name)).cloned()
    }

    /// All with the variables from before the instruction.
    fn pairs(
        &self,
        build: &Build<'_>,
        pairs: &[(String, String)],
    ) -> Result<Vec<(String, String)>, Problem> {
        let both = |(name, value): &(String, String)| {
            Ok((self.word(build, name)?, self.word(build, value)?))
        };
        pairs.iter().map(both).collect()
    }

    /// The merged layers so far.
    pub(crate) fn root(&mut self, build: &Build<'_>) -> Result<Root, StepError> {
        if self.root.is_none() {
            self.root = Some(build.root(&self.layers)?);
        }
        Ok(self.root.clone().expect("it was made"))
    }

    /// A path of an instruction, absolute. A slash at its end stays, `.` and `..` at its end become one.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let directory = path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | ".."));
        let mut parts: Vec<&str> = Vec::new();
        let above = if path.starts_with('/') { "" } else { self.state.working_dir() };
        for part in above.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let end = if directory && !parts.is_empty() { "/" } else { "" };
        format!("/{}{end}", parts.join("/"))
    }

    fn workdir(&mut self, build: &Build<'_>, path: &str) -> Result<bool, StepError> {
        let path = self.word(build, path)?;
        if path.is_empty() {
            return Err(Problem::NoArgument.into());
        }
        let mut path = self.absolute(&path);
        if path.len() > 1 && path.ends_with('/') {
            path.pop();
        }
        self.state.set_working_dir(path.clone());
        let root = self.root(build)?;
        let owner = self.owner(&root, Some(self.state.user()))?;
        let destination = Destination::new(path.as_bytes(), owner, None, build.request.now);
        let mut plan = Plan::new(&root, destination);
        plan.add_destination()?;
        self.finish_plan(build, "WORKDIR", plan)
    }

    fn copy(&mut self, build: &Build<'_>, copy: &Copy) -> Result<bool, StepError> {
        let root = self.root(build)?;
        let chown = copy.chown.as_ref().map(|text| self.word(build, text)).transpose()?;
        let owner = self.owner(&root, chown.as_deref())?;
        let chmod = copy.chmod.as_ref().map(|text| self.word(build, text)).transpose()?;
        let mode = chmod.map(|text| mode(&text)).transpose()?;
        let path = self.word(build, &copy.destination)?;
        if path.is_empty() {
            return Err(
                Problem::BadValue { what: "a path", value: copy.destination.clone() }.into()
            );
        }
        let path = self.absolute(&path);
        let destination = Destination::new(path.as_bytes(), owner, mode, build.request.now);
        let sources = copy.sources.iter().map(|text| self.word(build, text));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let from = match &copy.from {
            Some(from) => Some(self.origin(build, from)?),
            None => None,
        };
        let files: &dyn Files = match &from {
            Some(root) => root,
            None => &build.context,
        };
        let mut paths = Vec::new();
        let mut archives = Vec::new();
        if copy.add {
            for source in &sources {
                super::add::refuse_remote(source)?;
            }
            for path in globs(files, &sources)? {
                match super::add::unpack(build.store, files, &path)? {
                    Some(archive) => archives.push(archive),
                    None => paths.push(path),
                }
            }
        } else {
            paths = globs(files, &sources)?;
        }
        let several = copy.inline.len() + paths.len() + archives.len() > 1;
        let mut plan = Plan::new(&root, destination);
        plan.add(files, &paths, several)?;
        for archive in &archives {
            plan.add_all(archive)?;
        }
        for doc in &copy.inline {
            let content = match doc.expand {
                true => expand_text(&doc.content, build.file.escape, &|name| self.variable(name))?,
                false => doc.content.clone(),
            };
            plan.add_inline(&doc.name, content.into_bytes(), several)?;
        }
        self.finish_plan(build, "COPY", plan)
    }

    /// The files of a stage or an image that `--from` names.
    pub(crate) fn origin(&self, build: &Build<'_>, from: &str) -> Result<Root, StepError> {
        let finished: &Finished = match origin(&build.file.stages, self.number, from)? {
            Origin::Stage(number) => &build.stages[&number],
            Origin::Image(name) => &build.images[&name],
        };
        build.root(&finished.layers)
    }

    fn owner(&self, root: &Root, spec: Option<&str>) -> Result<Option<(u32, u32)>, StepError> {
        let Some(spec) = spec.filter(|spec| !spec.is_empty()) else { return Ok(None) };
        let owner = root.owner(spec)?;
        owner.map(Some).ok_or_else(|| StepError::UnknownUser(spec.to_owned()))
    }

    /// Takes the plan's layer from the cache or makes it. False when there is none.
    fn finish_plan(
        &mut self,
        build: &Build<'_>,
        kind: &str,
        plan: Plan<'_>,
    ) -> Result<bool, StepError> {
        if plan.is_empty() {
            return Ok(false);
        }
        let mut key = Key::new(kind, &self.layers);
        plan.describe(&mut key);
        let key = key.finish();
        if let Some(cached) = self.look_up(build, &key)? {
            return Ok(cached);
        }
        let layer = plan.carry_out(build.store.new_blob()?, false)?;
        self.add_layer(build, &key, Some(layer))
    }

    /// Takes the layer of a key from the cache; `Some(false)` when the step made none.
    pub(crate) fn look_up(
        &mut self,
        build: &Build<'_>,
        key: &Digest,
    ) -> Result<Option<bool>, StepError> {
        if build.request.no_cache {
            return Ok(None);
        }
        let found = build.store.cached(&build.lease, key, build.request.now)?;
        let Some(found) = found else { return Ok(None) };
        build.cached.fetch_add(1, Ordering::Relaxed);
        build.progress.event(BuildEvent::Cached);
        Ok(Some(match found {
            Cached::Nothing => false,
            Cached::Layer(digest) => {
                self.push(digest);
                true
            }
        }))
    }

    /// Stores a layer that a step made, and remembers it under the step's key.
    pub(crate) fn add_layer(
        &mut self,
        build: &Build<'_>,
        key: &Digest,
        layer: Option<Layer>,
    ) -> Result<bool, StepError> {
        let Some(layer) = layer else {
            build.store.keep(key, Cached::Nothing, build.request.now)?;
            return Ok(false);
        };
        build.store.extend_lease(&build.lease, [layer.diff_id])?;
        build.store.commit_layer(&build.lease, &layer)?;
        build.store.keep(key, Cached::Layer(layer.diff_id), build.request.now)?;
        self.push(layer.diff_id);
        Ok(true)
    }

    fn push(&mut self, layer: Digest) {
        self.layers.push(layer);
        self.root = None;
    }
}

/// `--chmod`, octal.
fn mode(text: &str) -> Result<u16, Problem> {
    let octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u16::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777);
    mode.ok_or_else(|| Problem::needs_buildkit(format!("--chmod={text}, which is no octal mode,")))
}

/// A layer with one empty directory that hides what is below it.
pub(crate) fn empty_directory(
    builder: &mut Builder,
    path: &[u8],
    attributes: Attributes,
) -> Result<(), StepError> {
    builder.add_dir(path, attributes)?;
    Ok(builder.add_whiteout(path)?)
}
