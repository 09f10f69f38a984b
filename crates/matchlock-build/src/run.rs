//! RUN.

use super::error::{At, StepError};
use super::execute::Build;
use super::instruction::{Run, RunCommand};
use super::key::Key;
use super::mounts::Scaffold;
use super::request::{BuildEvent, Output, RunResult, RunStep, Runner, Stream};
use super::stage::Stage;
use matchlock_image::manifest::RuntimeConfig;
use matchlock_image::store::RootImage;

/// Where the program of a here-document is while it runs.
const SCRIPT: &str = "/.matchlock-script";

impl Stage {
    /// Takes the layer from the cache or runs the command. False when no file changed.
    pub(crate) async fn run<R: Runner>(
        &mut self,
        build: &Build<'_>,
        run: &Run,
        at: &At,
        runner: &mut R,
    ) -> Result<bool, StepError> {
        let mut key = Key::new("RUN", &self.layers);
        let arguments = match &run.command {
            RunCommand::Command(command) => self.state.arguments(command),
            RunCommand::Script(text) => {
                key.text(text);
                vec![SCRIPT.to_owned()]
            }
        };
        let (env, user) = (self.environment(), self.state.user().to_owned());
        key.list(arguments.iter().map(String::as_str));
        key.number(env.len() as u64);
        for (name, value) in &env {
            key.list([name.as_str(), value].into_iter());
        }
        key.list([user.as_str(), self.state.working_dir()].into_iter());
        key.number(u64::from(run.network));
        let mut scaffold = Scaffold::default();
        for mount in &run.mounts {
            scaffold.mount(self, build, mount, &mut key)?;
        }
        let key = key.finish();
        if let Some(cached) = self.look_up(build, &key)? {
            return Ok(cached);
        }
        if let RunCommand::Script(text) = &run.command {
            scaffold.script(self, build, SCRIPT, text)?;
        }
        let layers = scaffold.all_layers(self);
        let config = RuntimeConfig {
            user: Some(user).filter(|user| !user.is_empty()),
            working_dir: Some(self.state.working_dir().to_owned()),
            env: with_proxies(env, build),
            ..RuntimeConfig::default()
        };
        let image = RootImage {
            files: build.store.open_layers(&build.lease, &layers)?,
            config,
            reference: at.to_string(),
            digest: key,
        };
        let step = RunStep { image, arguments, network: run.network, at: at.clone() };
        let mut output = Forward(build);
        let result = runner.run(step, &mut output).await.map_err(StepError::Run)?;
        let RunResult { status, layer } = result;
        if status != 0 {
            return Err(StepError::Status(status));
        }
        let layer = match layer {
            Some(layer) => scaffold.take_out(build.store, layer)?,
            None => None,
        };
        self.add_layer(build, &key, layer)
    }

    /// ENV, and the arguments that it does not hide.
    fn environment(&self) -> Vec<(String, String)> {
        let mut env = self.state.env().to_vec();
        for (name, value) in self.arguments.iter() {
            if self.state.env_value(name).is_none() {
                env.push((name.clone(), value.clone()));
            }
        }
        env
    }
}

/// Adds the proxies of the command line, which no key depends on.
fn with_proxies(mut env: Vec<(String, String)>, build: &Build<'_>) -> Vec<(String, String)> {
    for (name, value) in build.globals.proxies() {
        if env.iter().all(|(known, _)| known != name) {
            env.push((name.clone(), value.clone()));
        }
    }
    env
}

/// Output as events.
struct Forward<'a, 'b>(&'a Build<'b>);

impl Output for Forward<'_, '_> {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.0.progress.event(BuildEvent::Output { stream, bytes });
    }
}
