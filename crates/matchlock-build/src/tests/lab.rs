//! A store with base images, a context, and a runner that interprets small scripts.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::root::Root;
use crate::{
    BoxError, BuildError, BuildEvent, BuildProgress, BuildRequest, Built, ImageSource, Output,
    RunResult, RunStep, Runner, Stream, build,
};
use matchlock_image::digest::Digest;
use matchlock_image::erofs;
use matchlock_image::layer::Builder;
use matchlock_image::manifest::ImageConfig;
use matchlock_image::reference::Reference;
use matchlock_image::store::{ImageName, NewImage, RootImage, Source, Store, StoredImage};
use matchlock_image::tree::{Attributes, Content, InodeId, Tree};

pub(super) struct Lab {
    dir: tempfile::TempDir,
    pub(super) store: Store,
    /// Of the next build.
    pub(super) target: Option<String>,
    pub(super) args: Vec<(&'static str, &'static str)>,
    pub(super) no_cache: bool,
    pub(super) now: SystemTime,
    /// Events of the last build, as text.
    pub(super) events: Vec<String>,
    /// Commands that ran in the last build.
    pub(super) ran: Vec<Ran>,
}

/// A command that ran.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) user: Option<String>,
    pub(super) dir: Option<String>,
    pub(super) network: bool,
}

impl Lab {
    /// With an image `base`.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        std::fs::create_dir(dir.path().join("context")).expect("a directory");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let lab = Self {
            dir,
            store,
            target: None,
            args: Vec::new(),
            no_cache: false,
            now,
            events: Vec::new(),
            ran: Vec::new(),
        };
        lab.base("base", &json!({ "Env": ["PATH=/bin", "FROM_BASE=1"], "Cmd": ["base-cmd"] }));
        lab
    }

    /// An image with a few files.
    pub(super) fn base(&self, name: &str, config: &Value) {
        let mut builder = Builder::new(self.store.new_blob().expect("a file")).expect("a builder");
        let attributes = |mode| Attributes { mode, ..Attributes::default() };
        builder
            .add_dir(b"/srv", Attributes { uid: 7, gid: 8, ..attributes(0o750) })
            .expect("a directory");
        for (path, text) in [
            ("/etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/home/app:\n"),
            ("/etc/group", "staff:x:50:\n"),
            ("/usr/lib/old", "old"),
            ("/srv/keep", "kept"),
            ("/name", name),
        ] {
            builder.add_file(path.as_bytes(), attributes(0o644), text.as_bytes()).expect(path);
        }
        builder.add_symlink(b"/lib", attributes(0o777), b"usr/lib").expect("a link");
        let layer = builder.finish().expect("a layer");
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let raw = json!({ "architecture": architecture, "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] } });
        let config = ImageConfig::decode(raw.to_string().as_bytes()).expect("a configuration");
        let lease = self.store.lease([layer.diff_id]).expect("a lease");
        self.store.commit_layer(&lease, &layer).expect("stored");
        let names = [ImageName::local(name, Source::Tag).expect("a name")];
        let new = NewImage { names: &names, digest: Digest::of(name.as_bytes()), config: &config };
        self.store.commit_image(&lease, &new).expect("stored");
    }

    pub(super) fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    /// A file of the context.
    pub(super) fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.context().join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        std::fs::write(&path, text).expect("a file");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    }

    pub(super) fn try_build(&mut self, text: &str) -> Result<Built, BuildError> {
        let dockerfile = self.dir.path().join("Dockerfile");
        std::fs::write(&dockerfile, text).expect("a file");
        let request = BuildRequest {
            dockerfile: Some(dockerfile),
            dockerfile_name: "Dockerfile".into(),
            context: self.context(),
            target: self.target.clone(),
            args: self.args.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            no_cache: self.no_cache,
            cache_bytes: matchlock_image::store::CACHE_BYTES,
            names: vec![ImageName::local("result", Source::Local).expect("a name")],
            now: self.now,
        };
        let ran = Arc::new(Mutex::new(Vec::new()));
        let mut runner = Scripted { store: self.store.clone(), ran: Arc::clone(&ran) };
        let log = Log::default();
        let source = Stored(self.store.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let done =
            runtime.block_on(sendable(build(&request, &self.store, &source, &mut runner, &log)));
        self.events = std::mem::take(&mut *log.0.lock().expect("a log"));
        self.ran = std::mem::take(&mut *ran.lock().expect("a log"));
        done
    }

    /// Builds what must work.
    pub(super) fn build(&mut self, text: &str) -> Built {
        self.try_build(text).unwrap_or_else(|error| panic!("{text}: {}", chain(&error)))
    }

    /// Builds what must fail: the error with its causes.
    pub(super) fn error(&mut self, text: &str) -> String {
        chain(&self.try_build(text).map(|_| ()).expect_err(text))
    }

    pub(super) fn root(&self, image: &StoredImage) -> Root {
        root(self.store.open_image(image).expect("an image"))
    }

    /// All files of an image: `mode uid:gid content`.
    pub(super) fn files(&self, image: &StoredImage) -> BTreeMap<String, String> {
        let root = self.root(image);
        let mut files = BTreeMap::new();
        list(&root, Tree::ROOT, String::new(), &mut files);
        files
    }

    /// One file of the image that was built.
    pub(super) fn file(&self, built: &Built, path: &str) -> String {
        self.files(&built.image).get(path).cloned().unwrap_or_else(|| panic!("no {path}"))
    }

    /// The image's configuration.
    pub(super) fn config(&self, built: &Built) -> Value {
        serde_json::from_str(&built.image.config.raw).expect("JSON")
    }

    /// How many blobs the store has.
    pub(super) fn blobs(&self) -> usize {
        std::fs::read_dir(self.store.dir().join("blobs")).expect("a directory").count()
    }
}

/// A build may be a task of any runtime.
fn sendable<T: Send>(task: T) -> T {
    task
}

/// With all causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    matchlock_text::DescribeChain(error).to_string()
}

fn root(image: RootImage) -> Root {
    let mut files = image.files.into_iter();
    let index = files.next().expect("an index").0;
    let (layers, lengths): (Vec<_>, Vec<_>) = files.unzip();
    let tree = erofs::read_index(&index, &lengths).expect("an index");
    Root { tree: Arc::new(tree), layers: layers.into() }
}

fn list(root: &Root, id: InodeId, path: String, files: &mut BTreeMap<String, String>) {
    let inode = root.tree.inode(id);
    let Attributes { mode, uid, gid, .. } = inode.attributes;
    let content = match &inode.content {
        Content::Directory(directory) => {
            for (name, child) in &directory.entries {
                let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
                list(root, *child, format!("{path}/{name}"), files);
            }
            "/".to_owned()
        }
        Content::File(data) => text(root, *data),
        Content::Symlink(text) => format!("-> {}", String::from_utf8_lossy(text)),
        other => format!("{other:?}"),
    };
    files.insert(path, format!("{mode:o} {uid}:{gid} {content}"));
}

fn text(root: &Root, data: matchlock_image::tree::FileData) -> String {
    let mut text = String::new();
    root.open(data).read_to_string(&mut text).expect("text");
    text
}

/// Finds what is in the store.
struct Stored(Store);

impl ImageSource for Stored {
    async fn resolve(&self, reference: &Reference) -> Result<StoredImage, BoxError> {
        let found = self.0.find(reference)?;
        found.ok_or_else(|| format!("no image {}", reference.as_typed()).into())
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl BuildProgress for Log {
    fn event(&self, event: BuildEvent<'_>) {
        let text = match event {
            BuildEvent::Resolving { image } => format!("resolving {image}"),
            BuildEvent::Step { number, total, stage, at } => {
                format!(
                    "{}[{number}/{total}] {at}",
                    stage.map(|s| format!("{s} ")).unwrap_or_default()
                )
            }
            BuildEvent::Cached => "CACHED".to_owned(),
            BuildEvent::Output { stream, bytes } => {
                format!("{stream:?}: {}", String::from_utf8_lossy(bytes))
            }
            BuildEvent::Storing => "storing".to_owned(),
            BuildEvent::Warning(text) => format!("warning: {text}"),
        };
        self.0.lock().expect("a log").push(text);
    }
}

/// `write PATH TEXT`, `dir PATH`, `rm PATH`, `cat PATH`, `say TEXT`, `env NAME`, `exit N`; separated
/// by `;` or line feeds.
struct Scripted {
    store: Store,
    ran: Arc<Mutex<Vec<Ran>>>,
}

impl Runner for Scripted {
    async fn run(&mut self, step: RunStep, output: &mut dyn Output) -> Result<RunResult, BoxError> {
        let RunStep { image, arguments, network, .. } = step;
        let config = image.config.clone();
        let ran = Ran {
            arguments: arguments.clone(),
            env: config.env.clone(),
            user: config.user,
            dir: config.working_dir,
            network,
        };
        self.ran.lock().expect("a log").push(ran);
        let root = root(image);
        let program = root.resolve(arguments[0].as_bytes(), true)?.id;
        let script = match program.map(|id| &root.tree.inode(id).content) {
            Some(Content::File(data)) => text(&root, *data),
            _ => arguments.last().cloned().expect("a script"),
        };
        let mut builder = Builder::new(self.store.new_blob()?)?;
        let (mut status, mut changed) = (0, false);
        for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (path, content) = rest.split_once(' ').unwrap_or((rest, ""));
            let attributes = Attributes { mode: 0o600, uid: 3, ..Attributes::default() };
            changed |= matches!(word, "write" | "dir" | "rm");
            match word {
                "write" => builder.add_file(path.as_bytes(), attributes, content.as_bytes())?,
                "dir" => builder.add_dir(path.as_bytes(), attributes)?,
                "rm" => builder.add_whiteout(path.as_bytes())?,
                "cat" => {
                    let id = root.resolve(path.as_bytes(), true)?.id.ok_or(format!("no {path}"))?;
                    let Content::File(data) = root.tree.inode(id).content else {
                        return Err("no file".into());
                    };
                    output.write(Stream::Stdout, text(&root, data).as_bytes());
                }
                "ls" => {
                    let id = root.resolve(path.as_bytes(), true)?.id.ok_or(format!("no {path}"))?;
                    let names = root.tree.directory(id).ok_or("no directory")?.entries.keys();
                    let names: Vec<_> =
                        names.map(|name| String::from_utf8_lossy(name.as_bytes())).collect();
                    output.write(Stream::Stdout, names.join(" ").as_bytes());
                }
                "say" => output.write(Stream::Stderr, rest.as_bytes()),
                "exit" => {
                    status = rest.parse()?;
                    break;
                }
                "" => {}
                other => return Err(format!("no such command: {other}").into()),
            }
        }
        // Sandboxes differ: with no change some give no layer, others one of an empty archive.
        let empty = script.ends_with("nothing");
        let layer = (changed || empty).then(|| builder.finish()).transpose()?;
        Ok(RunResult { status, layer })
    }
}
