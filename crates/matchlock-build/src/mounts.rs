//! Mounts of a RUN, without mounting: what a command shall see lies in layers below its own, which the
//! image does not get; what it does there is taken out of its layer.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::copy::{Destination, Plan, globs};
use super::error::StepError;
use super::execute::Build;
use super::files::{Files, Kind};
use super::instruction::Mount;
use super::key::Key;
use super::root::Root;
use super::stage::{Stage, empty_directory};
use matchlock_image::digest::{Digest, Hasher};
use matchlock_image::erofs::BlobWriter;
use matchlock_image::layer::{Builder, Layer, LayerError};
use matchlock_image::store::{Cached, Store};
use matchlock_image::tree::{Attributes, Content, Name, Tree};

/// Starts what is hashed for the digest of a layer that something was taken out of.
const VERSION: &[u8] = b"matchlock-pruned-v1\n";
/// Bytes that are copied at a time.
const BUFFER: usize = 256 * 1024;

/// Layers for one command.
#[derive(Debug, Default)]
pub(crate) struct Scaffold {
    /// On top of the stage's.
    pub(crate) layers: Vec<Digest>,
    /// What is no part of the result: absolute paths without links.
    pub(crate) targets: Vec<Vec<u8>>,
}

impl Scaffold {
    /// Adds what one mount shows, and to the key what it is.
    pub(crate) fn mount(
        &mut self,
        stage: &Stage,
        build: &Build<'_>,
        mount: &Mount,
        key: &mut Key,
    ) -> Result<(), StepError> {
        let root_layers = self.all_layers(stage);
        let root = build.root(&root_layers)?;
        let target = stage.absolute(&stage.word(build, mount.target())?);
        let place = root
            .resolve(target.as_bytes(), true)
            .map_err(|source| super::CopyError::Destination { path: target.clone(), source })?;
        let mut own = Key::new("MOUNT", &root_layers);
        own.bytes(&place.path);
        let layer = match mount {
            Mount::Scratch { mode, uid, gid, .. } => {
                own.list(
                    [mode.to_string(), uid.to_string(), gid.to_string()].iter().map(String::as_str),
                );
                let attributes =
                    Attributes { mode: *mode, uid: *uid, gid: *gid, ..Attributes::default() };
                Self::kept(build, own, key, |file| {
                    let mut builder = Builder::new(file)?;
                    add_parents(&mut builder, &root, &place.path)?;
                    empty_directory(&mut builder, &place.path, attributes)?;
                    Ok(builder.finish()?)
                })?
            }
            Mount::Bind { source, from, .. } => {
                let source = stage.word(build, source)?;
                let from = from.as_ref().map(|from| stage.origin(build, from)).transpose()?;
                let files: &dyn Files = match &from {
                    Some(root) => root,
                    None => &build.context,
                };
                let paths = globs(files, std::slice::from_ref(&source))?;
                let found = files.find(paths.first().map_or(b"", Vec::as_slice))?;
                let directory =
                    found.is_some_and(|(_, entry)| matches!(entry.kind, Kind::Directory));
                let destination = Destination::new(&place.path, None, None, build.request.now);
                let mut plan = Plan::new(&root, destination);
                if directory {
                    plan.add_destination()?;
                }
                plan.add(files, &paths, false)?;
                plan.describe(&mut own);
                Self::kept(build, own, key, |file| Ok(plan.carry_out(file, directory)?))?
            }
        };
        self.layers.push(layer);
        self.targets.push(place.path);
        Ok(())
    }

    /// The layer of a mount: a bound context is not copied again for each build.
    fn kept(
        build: &Build<'_>,
        own: Key,
        step: &mut Key,
        make: impl FnOnce(File) -> Result<Layer, StepError>,
    ) -> Result<Digest, StepError> {
        let (own, now) = (own.finish(), build.request.now);
        step.text(&own.to_string());
        if !build.request.no_cache
            && let Some(Cached::Layer(layer)) = build.store.cached(&build.lease, &own, now)?
        {
            return Ok(layer);
        }
        let layer = make(build.store.new_blob()?)?;
        Self::store(build, &layer)?;
        build.store.keep(&own, Cached::Layer(layer.diff_id), now)?;
        Ok(layer.diff_id)
    }

    fn store(build: &Build<'_>, layer: &Layer) -> Result<(), StepError> {
        build.store.extend_lease(&build.lease, [layer.diff_id])?;
        Ok(build.store.commit_layer(&build.lease, layer)?)
    }

    /// Adds a program at `path`.
    pub(crate) fn script(
        &mut self,
        stage: &Stage,
        build: &Build<'_>,
        path: &str,
        text: &str,
    ) -> Result<(), StepError> {
        let root = build.root(&self.all_layers(stage))?;
        let mut builder = Builder::new(build.store.new_blob()?)?;
        add_parents(&mut builder, &root, path.as_bytes())?;
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        builder.add_file(path.as_bytes(), attributes, text.as_bytes())?;
        let layer = builder.finish()?;
        Self::store(build, &layer)?;
        self.layers.push(layer.diff_id);
        self.targets.push(path.as_bytes().to_vec());
        Ok(())
    }

    /// The stage's layers and these.
    pub(crate) fn all_layers(&self, stage: &Stage) -> Vec<Digest> {
        stage.layers.iter().chain(&self.layers).copied().collect()
    }

    /// The layer without what the command did in mounts; `None` when that was all.
    pub(crate) fn take_out(&self, store: &Store, layer: Layer) -> Result<Option<Layer>, StepError> {
        let Layer { diff_id, file, mut tree, unpacked } = layer;
        let mut hasher = Hasher::default();
        hasher.update(VERSION);
        hasher.update(diff_id.to_string().as_bytes());
        let mut changed = false;
        for target in &self.targets {
            if unlink(&mut tree, target) {
                changed = true;
                hasher.update(&(target.len() as u64).to_le_bytes());
                hasher.update(target);
            }
        }
        if !changed {
            return Ok((!is_empty(&tree)).then_some(Layer { diff_id, file, tree, unpacked }));
        }
        if is_empty(&tree) {
            return Ok(None);
        }
        let mut blob = BlobWriter::new(store.new_blob()?)?;
        copy_data(&file, &mut tree, &mut blob)?;
        let file = blob.finish(&tree).map_err(LayerError::FileSystem)?;
        Ok(Some(Layer { diff_id: hasher.finish(), file, tree, unpacked }))
    }
}

/// Whether a layer says nothing, not even what the root is like.
fn is_empty(tree: &Tree) -> bool {
    tree.directory(Tree::ROOT).is_some_and(|root| root.entries.is_empty() && root.implied)
}

/// Removes a path; false when it is not there.
fn unlink(tree: &mut Tree, path: &[u8]) -> bool {
    let mut names = Vec::new();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let Ok(name) = Name::new(part) else { return false };
        names.push(name);
    }
    let Some(last) = names.pop() else { return false };
    let parent = names.iter().try_fold(Tree::ROOT, |at, name| tree.lookup(at, name));
    parent.is_some_and(|parent| tree.unlink(parent, &last).is_some())
}

/// Copies the bytes of all files that names lead to, each once.
fn copy_data(from: &File, tree: &mut Tree, blob: &mut BlobWriter) -> Result<(), StepError> {
    let mut buffer = vec![0; BUFFER];
    let mut seen = std::collections::HashSet::new();
    let mut open = vec![Tree::ROOT];
    while let Some(id) = open.pop() {
        open.extend(
            tree.directory(id).into_iter().flat_map(|directory| directory.entries.values()),
        );
        let Content::File(data) = &mut tree.inode_mut(id).content else { continue };
        if data.size == 0 || !seen.insert(id) {
            continue;
        }
        blob.begin()?;
        let mut done = 0;
        while done < data.size {
            let wanted = usize::try_from(data.size - done).unwrap_or(BUFFER).min(BUFFER);
            from.read_exact_at(&mut buffer[..wanted], data.start + done)?;
            blob.write(&buffer[..wanted])?;
            done += wanted as u64;
        }
        *data = blob.end()?;
    }
    Ok(())
}

/// Directories above a path, as they are in the image, or new ones.
fn add_parents(builder: &mut Builder, root: &Root, path: &[u8]) -> Result<(), StepError> {
    let mut at = Some(Tree::ROOT);
    builder.add_dir(b"/", root.tree.inode(Tree::ROOT).attributes.clone())?;
    for end in (1..path.len()).filter(|at| path[*at] == b'/') {
        let name = path[..end].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        at = at.and_then(|at| root.tree.lookup(at, &Name::new(name).ok()?));
        let new = || Attributes { mode: 0o755, ..Attributes::default() };
        let attributes = at.map_or_else(new, |id| root.tree.inode(id).attributes.clone());
        builder.add_dir(&path[..end], attributes)?;
    }
    Ok(())
}
