//! The layers of an image: three at a time, each of them by one process at a time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::input::{Input, Piece};
use super::resolve::Resolved;
use super::{Event, LayerState, Progress, PullError, blocking};
use crate::digest::Digest;
use crate::erofs::BlobWriter;
use crate::layer::{self, Limits};
use crate::manifest::{Blob, LayerBlob};
use crate::reference::Reference;
use crate::registry::Client;
use crate::store::{Lease, PartFile, Store, StoreError};

/// Layers that are on their way at once.
const AT_ONCE: usize = 3;

/// Pieces between the registry and the unpacking of a layer.
const PIECES: usize = 32;

/// How often we look whether another process is done with a layer.
const LOOK: Duration = Duration::from_millis(100);

/// Where layers come from, and what they may cost.
pub(super) struct Source<'a> {
    pub(super) client: &'a Client,
    pub(super) reference: &'a Reference,
    pub(super) resolved: &'a Resolved,
    pub(super) limits: &'a Limits,
}

/// One layer on its way.
struct Fetch<'a> {
    store: &'a Store,
    source: &'a Source<'a>,
    lease: &'a Arc<Lease>,
    progress: &'a dyn Progress,
    index: usize,
    layer: LayerBlob,
    diff_id: Digest,
}

/// What came of unpacking: with the part file when the layer is not stored but may still be had.
struct Refused {
    error: PullError,
    part: Option<Box<PartFile>>,
}

/// Stores all layers that are not stored yet.
pub(super) async fn fetch(
    store: &Store,
    source: &Source<'_>,
    lease: &Arc<Lease>,
    progress: &dyn Progress,
) -> Result<(), PullError> {
    let resolved = source.resolved;
    let layers = resolved.manifest.layers.iter().zip(&resolved.config.diff_ids).enumerate();
    let fetches = layers.map(|(index, (layer, diff_id))| {
        let (layer, diff_id) = (*layer, *diff_id);
        // A layer may occur twice; the first one brings it.
        let known = resolved.config.diff_ids[..index].contains(&diff_id);
        let fetch = Fetch { store, source, lease, progress, index, layer, diff_id };
        async move {
            if known {
                fetch.report(LayerState::Exists);
                return Ok(());
            }
            fetch.run().await
        }
    });
    // Collected: a future that holds the iterator could not move between threads.
    limited(fetches.collect()).await
}

/// Runs futures, [`AT_ONCE`] at a time, until all are done or one fails.
async fn limited<F, E>(futures: Vec<F>) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    let mut waiting = futures.into_iter();
    let mut running: Vec<Pin<Box<F>>> = waiting.by_ref().take(AT_ONCE).map(Box::pin).collect();
    poll_fn(|context| {
        let mut at = 0;
        while let Some(future) = running.get_mut(at) {
            match future.as_mut().poll(context) {
                Poll::Pending => at += 1,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => match waiting.next() {
                    Some(next) => running[at] = Box::pin(next),
                    None => drop(running.swap_remove(at)),
                },
            }
        }
        if running.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

impl Fetch<'_> {
    fn report(&self, state: LayerState) {
        self.progress.event(Event::Layer { index: self.index, diff_id: self.diff_id, state });
    }

    async fn run(&self) -> Result<(), PullError> {
        let Some(mut part) = self.part().await? else {
            self.report(LayerState::Exists);
            return Ok(());
        };
        loop {
            let resumed = part.len() > 0;
            match self.transfer(part).await {
                Ok(()) => {
                    self.report(LayerState::Done);
                    return Ok(());
                }
                // A crash of the host can leave a part with a hole: once more from the beginning.
                Err(Refused { part: Some(mut kept), .. }) if resumed => {
                    kept.clear()?;
                    part = *kept;
                }
                Err(Refused { error, part }) => {
                    part.map(|part| part.remove()).transpose()?;
                    return Err(error);
                }
            }
        }
    }

    /// Waits for the part file; `None` when the layer is stored. Who has the part file is who may store
    /// the layer, so it is looked for only then.
    async fn part(&self) -> Result<Option<PartFile>, PullError> {
        let mut waited = false;
        loop {
            let (store, digest, diff_id) =
                (self.store.clone(), self.layer.blob.digest, self.diff_id);
            let looking = blocking(move || -> Result<_, StoreError> {
                let Some(part) = store.part(&digest)? else { return Ok(None) };
                if !store.has_blob(&diff_id)? {
                    return Ok(Some(Some(part)));
                }
                part.remove().map(|()| Some(None))
            });
            if let Some(part) = looking.await? {
                return Ok(part);
            }
            if !std::mem::replace(&mut waited, true) {
                self.report(LayerState::Waiting);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Brings what is missing of the layer, and unpacks and stores it on the way.
    async fn transfer(&self, mut part: PartFile) -> Result<(), Refused> {
        let blob = self.layer.blob;
        let passed = |error| Refused { error, part: None };
        let cleared = |error: StoreError| passed(error.into());
        if part.len() > blob.size {
            part.clear().map_err(cleared)?;
        }
        let mut stream = None;
        if part.len() < blob.size {
            let opened =
                self.source.client.blob(self.source.reference, &blob.digest, part.len()).await;
            let opened = opened.map_err(|error| passed(error.into()))?;
            if opened.start() != part.len() {
                part.clear().map_err(cleared)?;
            }
            stream = Some(opened);
        }
        let from = part.len();
        let (sender, receiver) = channel(PIECES);
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let (layer, diff_id, limits) = (self.layer, self.diff_id, self.source.limits.clone());
        let unpacking = blocking(move || {
            let unpacking = Unpacking { layer, diff_id, limits, store: &store, lease: &lease };
            unpacking.run(part, receiver)
        });
        // The unpacking starts when it is first polled: both go on together.
        let (sent, unpacked) = tokio::join!(self.send(stream, from, sender), unpacking);
        match (sent, unpacked) {
            // Unpacking ended because the transfer did.
            (Err(error), Err(Refused { error: PullError::Interrupted, .. })) => Err(passed(error)),
            (_, unpacked) => unpacked,
        }
    }

    /// Hands on what the registry sends until its end, or until nobody wants more.
    async fn send(
        &self,
        stream: Option<crate::registry::BlobStream>,
        from: u64,
        sender: Sender<Piece>,
    ) -> Result<(), PullError> {
        let of = self.layer.blob.size;
        let (mut done, mut resumed) = (from, 0);
        self.report(LayerState::Downloading { done, of });
        if let Some(mut stream) = stream {
            while let Some(bytes) = stream.next().await {
                let bytes = bytes?;
                if stream.resumed() > resumed {
                    resumed = stream.resumed();
                    self.progress.event(Event::Retrying { index: self.index, attempt: resumed });
                }
                done = done.saturating_add(bytes.len() as u64);
                if sender.send(Some(bytes)).await.is_err() {
                    return Ok(());
                }
                self.report(LayerState::Downloading { done: done.min(of), of });
            }
        }
        self.report(LayerState::Unpacking);
        // Nobody listens any more when unpacking failed, which says why by itself.
        let _failed = sender.send(None).await;
        Ok(())
    }
}

/// Unpacking on a thread of its own.
struct Unpacking<'a> {
    store: &'a Store,
    lease: &'a Lease,
    layer: LayerBlob,
    diff_id: Digest,
    limits: Limits,
}

impl Unpacking<'_> {
    /// Unpacks and stores a layer. The part file goes when the layer is stored or the device is full;
    /// it stays on the disk when the transfer broke; it comes back when its content was wrong.
    fn run(&self, part: PartFile, pieces: Receiver<Piece>) -> Result<(), Refused> {
        let mut input = Input::new(part, pieces, self.layer.blob);
        match self.store_layer(&mut input) {
            Ok(()) => {
                input.into_part().remove().map_err(|e| Refused { error: e.into(), part: None })
            }
            Err(error) if error.is_of_content() => {
                Err(Refused { error, part: Some(Box::new(input.into_part())) })
            }
            Err(error) => {
                if matches!(error, PullError::Store(StoreError::NoSpace(_))) {
                    // What it takes is what others need now; the first error is the one to tell.
                    let _removed = input.into_part().remove();
                }
                Err(Refused { error, part: None })
            }
        }
    }

    fn store_layer(&self, input: &mut Input) -> Result<(), PullError> {
        let blob = BlobWriter::new(self.store.new_blob()?);
        let blob = blob.map_err(|error| self.store.blob_failed(error))?;
        let LayerBlob { blob: Blob { digest, .. }, compression } = self.layer;
        match layer::unpack(&mut *input, compression, Some(&self.diff_id), blob, &self.limits) {
            Ok(unpacked) => {
                input.finish()?;
                Ok(self.store.commit_layer(self.lease, &unpacked)?)
            }
            Err(source) => {
                if let Some(full) = self.store.full(&source) {
                    return Err(full.into());
                }
                input.diagnose()?;
                Err(PullError::Layer { digest, source })
            }
        }
    }
}
