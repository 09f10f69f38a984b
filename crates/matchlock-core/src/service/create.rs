//! `create`: from parameters to a sandbox that is up, or to nothing.

use std::sync::Arc;
use std::time::Duration;

use matchlock_api::{
    CreateParams, CreateResult, ErrorCode, ErrorKind, Event, ImageConfig, RpcError,
};
use matchlock_image::store::RootImage;
use matchlock_proto::{ExecRequest, ExitStatus, Stdin};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fault::of_exec;
use super::plan::{Plan, variables};
use super::session::Cancel;
use super::{Service, Slot, Up, cancelled};
use crate::exec::{Execution, Streams};
use crate::launcher::Launcher;
use crate::spec::{Attachments, ImageSpec, SandboxSpec};

/// The image's program fails the start if it fails within this time: contract, section 2.4.
const EARLY: Duration = Duration::from_millis(500);

/// The place of the sandbox while it is made. Dropping it makes the place free again.
struct Claim<'a> {
    service: &'a Service,
    done: bool,
}

/// Everything that a launch needs.
struct Ready {
    launcher: Launcher,
    spec: SandboxSpec,
    with: Attachments,
    config: ImageConfig,
    /// The image's program, if it is to be started.
    program: Option<Vec<String>>,
}

impl Service {
    pub(super) async fn create(
        &self,
        params: CreateParams,
        observer: mpsc::Sender<Event>,
        cancel: &mut Cancel,
    ) -> Result<CreateResult, RpcError> {
        let claim = self.claim()?;
        let (proxy, egress) = self.shared.surroundings.network()?;
        let mut plan = Plan::new(params, egress, &self.shared.bounds)?;
        let with = Attachments { proxy, ..Attachments::default() };
        let with = Attachments {
            secrets: std::mem::take(&mut plan.secrets),
            rules: std::mem::take(&mut plan.rules),
            callback_socket: plan.callback_socket.take(),
            observer: Some(observer),
            ..with
        };
        let ready = tokio::select! {
            ready = self.prepare(plan, with) => ready?,
            () = cancel.cancelled() => return Err(cancelled()),
        };
        let Ready { launcher, spec, with, config, program } = ready;
        let writes_disks = spec.writes_disks();
        let fault = self.fault(ErrorCode::Sandbox);
        let sandbox = launcher.launch(spec, with).map_err(fault.of())?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let up = Arc::new(Up {
            sandbox,
            user: given(config.user),
            working_dir: given(config.working_dir),
            writes_disks,
        });
        let started = tokio::select! {
            started = self.start_up(&up, program) => started,
            () = cancel.cancelled() => Err(cancelled()),
        };
        if let Err(error) = started {
            // It is answered when nothing is left, and nothing remembers it.
            up.sandbox.end().await;
            let (parts, id) = (Arc::clone(&launcher.parts), up.sandbox.id().clone());
            let removing = tokio::task::spawn_blocking(move || parts.state.remove(&id));
            // A row that stays can be removed by hand.
            let _ = removing.await;
            return Err(error);
        }
        let id = up.sandbox.id().to_string();
        claim.fulfil(up);
        Ok(CreateResult { id })
    }

    fn claim(&self) -> Result<Claim<'_>, RpcError> {
        let mut why = None;
        self.shared.slot.send_if_modified(|slot| {
            why = match slot {
                Slot::Empty => None,
                Slot::Creating => Some("the sandbox is being created"),
                Slot::Up(_) => Some("the sandbox was created already"),
                Slot::Closed(_) => Some("the sandbox was closed"),
            };
            if why.is_none() {
                *slot = Slot::Creating;
            }
            why.is_none()
        });
        match why {
            None => Ok(Claim { service: self, done: false }),
            Some(why) => {
                let text = format!("cannot create a second sandbox: {why}");
                let error = RpcError::new(ErrorCode::Sandbox, ErrorKind::Conflict, text);
                Err(error.hinted("start another `matchlock rpc` for another sandbox"))
            }
        }
    }

    /// Fetches and opens what the sandbox is made of.
    async fn prepare(&self, plan: Plan, mut with: Attachments) -> Result<Ready, RpcError> {
        let Plan { mut spec, image, kernel, image_config: mut config, launch, .. } = plan;
        let surroundings = &self.shared.surroundings;
        let disks = async {
            if spec.disks.is_empty() {
                return Ok(Vec::new());
            }
            let (volumes, disks) = (surroundings.volumes()?, spec.disks.clone());
            let claiming = tokio::task::spawn_blocking(move || {
                disks.iter().map(|disk| disk.claim(&volumes)).collect::<Result<Vec<_>, _>>()
            });
            let doing = "invalid extra disk config";
            let fault = self.fault(ErrorCode::Sandbox);
            let claimed = claiming.await.map_err(crate::error::CoreError::thread);
            claimed.map_err(fault.of())?.map_err(fault.doing(doing))
        };
        // What is wrong with this machine is said before an image has come from far away.
        let (launcher, root, disks) = tokio::try_join!(
            surroundings.launcher(kernel.as_deref()),
            surroundings.root(&image),
            disks,
        )?;
        with.disks = disks;
        let root = match root {
            Some(root) => Some(Box::new(overlaid(*root, &config)?)),
            None => {
                let env = variables("image_config.env", &config.env.take().unwrap_or_default())?;
                // Variables of the sandbox come later, and win.
                spec.env.splice(0..0, env);
                None
            }
        };
        let program = launch.then(|| match &root {
            Some(root) => [&root.config.entrypoint[..], &root.config.cmd[..]].concat(),
            None => {
                let words = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
                [words(&config.entrypoint), words(&config.cmd)].concat()
            }
        });
        let program = program.filter(|words| !words.is_empty());
        if let Some(root) = &root {
            spec.image = ImageSpec::of(root);
        }
        with.root = root;
        Ok(Ready { launcher, spec, with, config, program })
    }

    /// Waits until the sandbox is up, and starts the image's program in it.
    async fn start_up(&self, up: &Arc<Up>, program: Option<Vec<String>>) -> Result<(), RpcError> {
        let fault = self.fault(ErrorCode::Sandbox);
        up.sandbox.ready().await.map_err(fault.doing("starting sandbox"))?;
        let Some(words) = program else { return Ok(()) };
        let request = ExecRequest {
            argv: words.into_iter().map(String::into_bytes).collect(),
            working_dir: up.working_dir.clone().map(String::into_bytes),
            user: up.user.clone(),
            stdin: Stdin::Null,
            ..ExecRequest::default()
        };
        let failed = |why: String| {
            let text = format!("start image entrypoint: {why}");
            RpcError::new(ErrorCode::Sandbox, ErrorKind::Guest, text)
        };
        let started = up.sandbox.logged(request).await;
        let (execution, streams) = started.map_err(|error| failed(of_exec(&error).message))?;
        // It lives as long as the sandbox, which is what its guest ends it with.
        let mut running = tokio::spawn(attend(execution, streams));
        match timeout(EARLY, &mut running).await {
            Err(_still_runs) => Ok(()),
            Ok(Ok(Ok(ExitStatus::Code(0)))) => Ok(()),
            Ok(Ok(Ok(status))) => Err(failed(format!("exit code {}", status.shell_code()))),
            Ok(Ok(Err(why))) => Err(failed(why)),
            Ok(Err(error)) => Err(failed(error.to_string())),
        }
    }
}

/// Waits for the end of the image's program. What it writes goes into the log, and nowhere else.
async fn attend(mut execution: Execution, streams: Streams) -> Result<ExitStatus, String> {
    // What nobody reads holds no program up.
    drop(streams);
    execution.wait().await.map_err(|error| of_exec(&error).message)
}

/// The image with what takes the place of its configuration: contract, section 2.4.
fn overlaid(mut root: RootImage, config: &ImageConfig) -> Result<RootImage, RpcError> {
    let ImageConfig { user, working_dir, entrypoint, cmd, env } = config;
    let of = &mut root.config;
    for (given, kept) in [(user, &mut of.user), (working_dir, &mut of.working_dir)] {
        if let Some(text) = given.as_ref().filter(|text| !text.is_empty()) {
            *kept = Some(text.clone());
        }
    }
    for (given, kept) in [(entrypoint, &mut of.entrypoint), (cmd, &mut of.cmd)] {
        if let Some(words) = given {
            kept.clone_from(words);
        }
    }
    if let Some(env) = env {
        variables("image_config.env", env)?;
        of.env = env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    }
    Ok(root)
}

impl Claim<'_> {
    fn fulfil(mut self, up: Arc<Up>) {
        self.done = true;
        self.service.shared.slot.send_replace(Slot::Up(up));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.service.shared.slot.send_replace(Slot::Empty);
        }
    }
}
