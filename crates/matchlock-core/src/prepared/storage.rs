//! What an image and disks are: devices for the machine, mounts for the guest, defaults for executions.

mod extra;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use matchlock_fs::{CachePolicy, HostImage, Limits, Message, Pool, Server, Service, Tree};
use matchlock_image::store::RootImage;
use matchlock_proto::{DiskMount, ExecRequest, LowerLayer, RootConfig, UpperLayer};
use matchlock_vmm::{
    Disk, DiskSource, FsDevice, FuseHandler, FuseMessage, MAX_DEVICES, OWN_DEVICES,
};

use crate::error::CoreError;
use crate::spec::{Attachments, SandboxSpec};
use crate::volume::Access;

/// Tag of the virtio-fs device that holds the root's lower layer.
const ROOT_TAG: &str = "root";

/// The writable layer comes first, so that it has the same name in every guest.
const UPPER: u8 = 0;

/// All of it.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) disks: Vec<Disk>,
    pub(super) filesystems: Vec<FsDevice>,
    pub(super) mounts: Mounts,
    pub(super) defaults: Defaults,
}

/// The guest's part.
#[derive(Debug)]
pub(super) struct Mounts {
    pub(super) root: RootConfig,
    pub(super) disks: Vec<DiskMount>,
}

/// What an image says of the programs that run in it.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    pub(super) env: Vec<(Vec<u8>, Vec<u8>)>,
    user: Option<String>,
    pub(super) working_dir: Option<Vec<u8>>,
}

impl Storage {
    /// Of the files of the image and of the disks; `upper` is the writable layer.
    pub(super) fn new(
        spec: &SandboxSpec,
        with: Attachments,
        upper: File,
    ) -> Result<Self, CoreError> {
        let ephemeral = !spec.is_kept();
        let upper = Disk { source: DiskSource::File(upper), read_only: false, ephemeral };
        let mut disks = vec![upper];
        let (mut filesystems, mut defaults) = (Vec::new(), Defaults::default());
        let lower = match with.root {
            None => {
                filesystems.push(host_image()?);
                LowerLayer::VirtioFs { tag: ROOT_TAG.to_owned() }
            }
            Some(image) => {
                defaults = Defaults::of(&image);
                let source = DiskSource::Concatenated(image.files);
                let disk = add(&mut disks, source, Access::ReadOnly)?;
                LowerLayer::Erofs { disk }
            }
        };
        let taken = OWN_DEVICES + filesystems.len() + usize::from(spec.network.is_some());
        let room = MAX_DEVICES.saturating_sub(taken);
        let mounts = extra::attach(&mut disks, spec.disks.iter().zip(with.disks).collect(), room)?;
        let upper = UpperLayer::Ext4 { disk: UPPER };
        let root = RootConfig { lower: vec![lower], upper, export: spec.export };
        Ok(Self { disks, filesystems, mounts: Mounts { root, disks: mounts }, defaults })
    }
}

/// Adds a disk and returns its index.
fn add(disks: &mut Vec<Disk>, source: DiskSource, access: Access) -> Result<u8, CoreError> {
    let index = disks.len();
    disks.push(Disk { source, read_only: access == Access::ReadOnly, ephemeral: false });
    // The monitor's own limit is far below this one, and says what was too many.
    u8::try_from(index).map_err(|_| {
        let wanted = index;
        CoreError::Vmm(matchlock_vmm::VmmError::TooManyDevices { wanted })
    })
}

impl Defaults {
    fn of(image: &RootImage) -> Self {
        let config = &image.config;
        let bytes = |text: &String| text.clone().into_bytes();
        Self {
            env: config.env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
            user: config.user.clone(),
            working_dir: config.working_dir.as_ref().map(bytes),
        }
    }

    /// Fills in what the request does not say.
    pub(crate) fn complete(&self, request: &mut ExecRequest) {
        if request.user.is_none() {
            request.user.clone_from(&self.user);
        }
        if request.working_dir.is_none() {
            request.working_dir.clone_from(&self.working_dir);
        }
    }
}

fn host_image() -> Result<FsDevice, CoreError> {
    let pool = Pool::new(Limits::for_this_process());
    let tree = HostImage::open(Path::new("/"), &pool, CachePolicy::SYSTEM)
        .map_err(CoreError::HostImage)?;
    let handler = Arc::new(FileServer(Service::new(Server::new(Arc::new(tree)))));
    Ok(FsDevice { tag: ROOT_TAG.to_owned(), handler })
}

/// The file server as a device back end: the two crates meet only here.
#[derive(Debug)]
struct FileServer(Service<Tree, GuestMessage>);

impl FuseHandler for FileServer {
    fn submit(&self, message: FuseMessage) {
        self.0.submit(GuestMessage(message));
    }
}

/// A message of a device, for the file server.
#[derive(Debug)]
struct GuestMessage(FuseMessage);

impl Message for GuestMessage {
    fn head(&self) -> &[u8] {
        self.0.head()
    }

    fn read(&self, into: &mut Vec<u8>) -> std::io::Result<()> {
        self.0.read(into)
    }

    fn answer(self, reply: &[u8]) {
        self.0.answer(reply);
    }
}
