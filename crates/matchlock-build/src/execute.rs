//! A build from its files to the image: images are found, stages carried out in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::context::Context;
use super::error::{At, BuildError, StepError};
use super::graph::{Base, Graph, plan};
use super::instruction::{Dockerfile, Instruction, Step};
use super::parse::{parse, parse_trigger};
use super::request::{BuildEvent, BuildProgress, BuildRequest, Built, ImageSource, Runner};
use super::root::Root;
use super::sources;
use super::stage::Stage;
use super::state::State;
use super::variables::{Arguments, Globals};
use matchlock_image::digest::Digest;
use matchlock_image::erofs;
use matchlock_image::manifest::ImageConfig;
use matchlock_image::reference::Reference;
use matchlock_image::store::{Lease, NewImage, Store};

/// What all stages of a build share.
pub(crate) struct Build<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: Lease,
    pub(crate) context: Context,
    pub(crate) file: Dockerfile,
    pub(crate) globals: Globals,
    pub(crate) request: &'a BuildRequest,
    pub(crate) progress: &'a dyn BuildProgress,
    /// Images by the name in the Dockerfile.
    pub(crate) images: BTreeMap<String, Finished>,
    /// Stages that are done, by their number.
    pub(crate) stages: BTreeMap<usize, Finished>,
    /// Steps so far.
    pub(crate) number: usize,
    pub(crate) total: usize,
    pub(crate) cached: AtomicUsize,
}

/// A file system with its configuration: an image, or a stage that is done.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) layers: Vec<Digest>,
    pub(crate) state: State,
}

/// Builds an image and stores it under the names of the request.
///
/// Between its waits for images and commands it reads, hashes and writes files: give it a thread that may
/// block.
///
/// # Errors
/// [`BuildError`]; then no name has changed. What steps made before is kept for the next build.
///
/// # Panics
/// When the request has no name for the image.
pub async fn build<S: ImageSource, R: Runner>(
    request: &BuildRequest,
    store: &Store,
    images: &S,
    runner: &mut R,
    progress: &dyn BuildProgress,
) -> Result<Built, BuildError> {
    let (file, context) = read(request)?;
    let architecture = architecture();
    let globals = Globals::new(&file, request.args.clone(), architecture)?;
    let graph = plan(&file, request.target.as_deref(), &globals)?;
    warn_of_unused(&file, &globals, progress);
    let mut build = Build {
        store,
        lease: store.lease([])?,
        context,
        file,
        globals,
        request,
        progress,
        images: BTreeMap::new(),
        stages: BTreeMap::new(),
        number: 0,
        total: 0,
        cached: AtomicUsize::new(0),
    };
    build.find_images(&graph, images).await?;
    let stages = build.plan_stages(&graph, architecture)?;
    build.total = stages.iter().map(|(_, stage)| stage.steps.len() + 1).sum();
    let mut last = None;
    for (number, stage) in stages {
        last = Some(number);
        let finished = build.run_stage(number, stage, runner).await?;
        build.stages.insert(number, finished);
    }
    let finished = last.and_then(|number| build.stages.remove(&number));
    build.store_image(&finished.expect("there is a target"))
}

/// A stage before it is carried out.
struct Planned {
    base: Base,
    steps: Vec<Step>,
}

impl Build<'_> {
    /// All images first: a name that does not exist is found before anything runs.
    async fn find_images(
        &mut self,
        graph: &Graph,
        images: &impl ImageSource,
    ) -> Result<(), BuildError> {
        for (name, at) in &graph.images {
            let fail = |source| BuildError::Image { at: at.clone(), source };
            self.progress.event(BuildEvent::Resolving { image: name });
            let reference: Reference = name.parse().map_err(|error| fail(Box::new(error)))?;
            let image = images.resolve(&reference).await.map_err(fail)?;
            let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
            self.store.extend_lease(&self.lease, layers.iter().copied())?;
            if !self.store.is_whole(&image)? {
                return Err(fail("the image was removed meanwhile".into()));
            }
            let state =
                State::from_json(&image.config.raw).map_err(|error| fail(Box::new(error)))?;
            self.images.insert(name.clone(), Finished { layers, state });
        }
        Ok(())
    }

    /// Puts the triggers of bases in front of the stages' own steps.
    fn plan_stages(
        &self,
        graph: &Graph,
        architecture: &str,
    ) -> Result<Vec<(usize, Planned)>, BuildError> {
        let mut planned = Vec::new();
        for (number, base) in &graph.needed {
            let stage = &self.file.stages[*number];
            let triggers = match base {
                Base::Scratch => State::scratch(architecture).begin_stage(),
                Base::Image(name) => self.images[name].state.clone().begin_stage(),
                Base::Stage(below) => own_triggers(&self.file.stages[*below].steps),
            };
            let mut steps = Vec::with_capacity(triggers.len() + stage.steps.len());
            for text in triggers {
                let at = At::new(&stage.at.file, stage.at.line, &format!("ONBUILD {text}"));
                steps.push(trigger(&text, at)?);
            }
            steps.extend(stage.steps.iter().cloned());
            planned.push((*number, Planned { base: base.clone(), steps }));
        }
        Ok(planned)
    }

    async fn run_stage<R: Runner>(
        &mut self,
        number: usize,
        planned: Planned,
        runner: &mut R,
    ) -> Result<Finished, BuildError> {
        let at = self.file.stages[number].at.clone();
        let name = self.file.stages[number].name.clone();
        self.begin_step(name.as_deref(), &at);
        let mut base = match planned.base {
            Base::Scratch => Finished { layers: Vec::new(), state: State::scratch(architecture()) },
            Base::Image(name) => self.images[&name].clone(),
            Base::Stage(below) => self.stages[&below].clone(),
        };
        let _planned_already = base.state.begin_stage();
        let mut stage = Stage {
            layers: base.layers,
            state: base.state,
            arguments: Arguments::default(),
            number,
            root: None,
        };
        for step in planned.steps {
            self.begin_step(name.as_deref(), &step.at);
            let done = stage.carry_out(self, &step, runner).await;
            done.map_err(|source| BuildError::Step { at: step.at.clone(), source: source.into() })?;
        }
        Ok(Finished { layers: stage.layers, state: stage.state })
    }

    fn begin_step(&mut self, stage: Option<&str>, at: &At) {
        self.number += 1;
        let (number, total) = (self.number, self.total);
        self.progress.event(BuildEvent::Step { number, total, stage, at });
    }

    /// The merged file system of some layers, which the lease has.
    pub(crate) fn root(&self, layers: &[Digest]) -> Result<Root, StepError> {
        if layers.is_empty() {
            return Ok(Root::empty());
        }
        let mut files = self.store.open_layers(&self.lease, layers)?.into_iter();
        let index = files
            .next()
            .map(|(file, _)| file)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let (files, lengths): (Vec<_>, Vec<_>) = files.unzip();
        let tree = erofs::read_index(&index, &lengths).map_err(StepError::Image)?;
        Ok(Root { tree: Arc::new(tree), layers: files.into() })
    }

    fn store_image(self, finished: &Finished) -> Result<Built, BuildError> {
        self.progress.event(BuildEvent::Storing);
        let json = finished.state.to_json(&finished.layers, self.request.now);
        let config = ImageConfig::decode(json.as_bytes()).map_err(BuildError::Result)?;
        let names = &self.request.names;
        let new = NewImage { names, digest: Digest::of(json.as_bytes()), config: &config };
        let image = self.store.commit_image(&self.lease, &new)?;
        drop(self.lease);
        let trimmed = self.store.trim_build_cache(self.request.cache_bytes, self.request.now);
        if let Err(error) = trimmed {
            // The image is there all the same.
            self.progress
                .event(BuildEvent::Warning(&format!("the cache was not trimmed: {error}")));
        }
        Ok(Built { image, cached: self.cached.into_inner(), steps: self.total })
    }
}

/// Of this host, in the words of the OCI image spec.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a stage leaves for those that begin with it.
fn own_triggers(steps: &[Step]) -> Vec<String> {
    let text = |step: &Step| match &step.instruction {
        Instruction::Onbuild(text) => Some(text.clone()),
        _ => None,
    };
    steps.iter().filter_map(text).collect()
}

fn trigger(text: &str, at: At) -> Result<Step, BuildError> {
    let problem = match parse_trigger(text) {
        // It would need stages of this file that its author cannot know.
        Ok(instruction) if !instruction.sources().is_empty() => {
            super::Problem::needs_buildkit("a trigger that copies from a stage or an image")
        }
        Ok(instruction) => return Ok(Step { at, text: text.to_owned(), instruction }),
        Err(problem) => problem,
    };
    Err(BuildError::Step { at, source: Box::new(problem.into()) })
}

fn warn_of_unused(file: &Dockerfile, globals: &Globals, progress: &dyn BuildProgress) {
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    for (_, names) in &file.globals {
        asked.extend(names.iter().map(|(name, _)| name.as_str()));
    }
    for step in file.stages.iter().flat_map(|stage| &stage.steps) {
        if let Instruction::Arg(names) = &step.instruction {
            asked.extend(names.iter().map(|(name, _)| name.as_str()));
        }
    }
    for name in globals.unused(&asked) {
        progress.event(BuildEvent::Warning(&format!("no ARG asks for the build argument {name}")));
    }
}

fn read(request: &BuildRequest) -> Result<(Dockerfile, Context), BuildError> {
    let name = request.dockerfile_name.as_str();
    let (bytes, context) = sources::open(request.dockerfile.as_deref(), name, &request.context)?;
    let file = parse(&name.into(), &bytes)?;
    Ok((file, context))
}
