//! The body of a response on its way to the guest.

use bytes::Bytes;
use matchlock_intercept::h1::ResponseHead;
use matchlock_intercept::hooks::{
    BodyEdit, BodyEditor, EditError, OnError, SseEditor, is_event_stream,
};
use matchlock_intercept::rewrite::{
    Progress, Scrubber, Undecodable, content_encoding, fit_headers,
};
use matchlock_policy::Bound;

use super::HELD_BODY;
use super::answer::Stop;
use super::held::{Place, Room};
use crate::cause::Cause;

/// Why a response does not go to the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// A rule does not let it.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// A rule would change it and cannot, and lets nothing pass then.
    #[error("the body cannot be edited")]
    Edit(#[source] EditError),
    /// It cannot be edited, and must not go on as it is.
    #[error("the bodies that are held back are too large together")]
    NoRoom,
    /// It has to be searched for secrets, and cannot be read.
    #[error("the body cannot be searched for secrets")]
    Undecodable(#[from] Undecodable),
}

/// What is done to a body. However it is cut, the same goes to the guest.
#[derive(Default)]
pub(super) struct Download {
    scrubber: Option<Scrubber>,
    edit: Edit,
    on_error: OnError,
    place: Option<Place>,
    stage: Stage,
    /// What the upstream sends does not matter.
    instead: bool,
}

#[derive(Default)]
enum Edit {
    #[default]
    None,
    /// Line by line.
    Live(Box<SseEditor>),
    /// When it is all here.
    Whole(Box<BodyEditor>),
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// To take more of the body.
    #[default]
    Take,
    /// To give more of what was taken: decoding may make much out of little.
    Give,
    /// To give more, after the end.
    GiveLast,
    Done,
}

impl Download {
    /// For a response with this head, which is to be made [fit](Self::fit) once it is known what of
    /// the body changes.
    pub(super) fn new(
        bound: &Bound<'_>,
        head: &ResponseHead,
        edit: BodyEdit,
        room: &Room,
    ) -> Result<Self, DownloadError> {
        let encoding = content_encoding(&head.headers);
        let instead = edit.replaces_all();
        let on_error = edit.on_error();
        let scrubber = Scrubber::new(bound, encoding.as_deref())?;
        // What was searched is not encoded any more.
        let encoding = encoding.filter(|_| scrubber.is_none());
        let editor = if edit.is_noop() {
            Ok(Edit::None)
        } else if is_event_stream(&head.headers) && !edit.replaces_all() {
            SseEditor::new(edit, encoding.as_deref()).map(|editor| Edit::Live(Box::new(editor)))
        } else {
            BodyEditor::new(edit, encoding.as_deref()).map(|editor| Edit::Whole(Box::new(editor)))
        };
        let place = Some(room.place());
        let mut new = Self { scrubber, on_error, place, instead, ..Self::default() };
        match editor {
            Ok(editor) => new.edit = editor,
            Err(error) => new.give_up(DownloadError::Edit(error))?,
        }
        Ok(new)
    }

    /// Whether the body may change, and its length with it.
    pub(super) fn changes(&self) -> bool {
        self.scrubber.is_some() || self.gathers() || self.is_live()
    }

    /// Whether the body is held back until it is all here. That can end before, when it gets too
    /// large: it then goes on as it is.
    pub(super) fn gathers(&self) -> bool {
        matches!(self.edit, Edit::Whole(_))
    }

    /// Whether the body must not be held back, however short.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.edit, Edit::Live(_))
    }

    /// Whether so many bytes may be held back besides the `held` ones. What is gathered has its room.
    pub(super) fn may_hold(&mut self, held: usize, more: usize) -> bool {
        self.gathers() || (held + more <= HELD_BODY && self.take_room(more))
    }

    fn take_room(&mut self, bytes: usize) -> bool {
        self.place.as_mut().is_some_and(|place| place.take(bytes))
    }

    /// Whether the body is another one, whatever the upstream sends.
    pub(super) fn is_instead(&self) -> bool {
        self.instead
    }

    /// Whether all of it was given.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Makes a head fit the body: of this length, or of one that is not known yet.
    pub(super) fn fit(head: &mut ResponseHead, length: Option<u64>) {
        fit_headers(&mut head.headers, length);
    }

    /// More of what was taken. To be asked until there is none before more is taken.
    pub(super) fn more(&mut self) -> Result<Option<Bytes>, DownloadError> {
        match self.stage {
            Stage::Take | Stage::Done => Ok(None),
            Stage::Give => self.take(b"").map(Some),
            Stage::GiveLast => self.finish().map(Some),
        }
    }

    /// Takes some of the body and gives what of it can go to the guest.
    pub(super) fn push(&mut self, data: Bytes) -> Result<Bytes, DownloadError> {
        if self.changes() { self.take(&data) } else { Ok(data) }
    }

    /// The rest, or some of it, at the end.
    pub(super) fn finish(&mut self) -> Result<Bytes, DownloadError> {
        let mut found = Vec::new();
        let mut progress = Progress::Drained;
        if let Some(scrubber) = &mut self.scrubber {
            progress = scrubber.finish(&mut found)?;
        }
        let mut out = Vec::new();
        if self.scrubber.is_some() {
            // Plain text makes no more of itself.
            let _drained = self.edit(&found, &mut out)?;
        }
        if progress == Progress::Drained {
            progress = self.finish_edit(&mut out)?;
        }
        self.stage = if progress == Progress::More { Stage::GiveLast } else { Stage::Done };
        Ok(out.into())
    }

    fn take(&mut self, data: &[u8]) -> Result<Bytes, DownloadError> {
        let mut out = Vec::with_capacity(data.len());
        let progress = match &mut self.scrubber {
            None => self.edit(data, &mut out)?,
            Some(scrubber) => {
                let mut clean = Vec::with_capacity(data.len());
                let progress = scrubber.push(data, &mut clean)?;
                let _drained = self.edit(&clean, &mut out)?;
                progress
            }
        };
        self.stage = if progress == Progress::More { Stage::Give } else { Stage::Take };
        Ok(out.into())
    }

    fn edit(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Progress, DownloadError> {
        let has_room = !self.gathers() || self.take_room(data.len());
        let result = match &mut self.edit {
            Edit::None => {
                out.extend_from_slice(data);
                Ok(())
            }
            Edit::Live(editor) => return editor.push(data, out).map_err(DownloadError::Edit),
            Edit::Whole(_) if !has_room => Err(DownloadError::NoRoom),
            Edit::Whole(editor) => editor.push(data).map_err(DownloadError::Edit),
        };
        if let Err(error) = result {
            self.release(error, out)?;
            out.extend_from_slice(data);
        }
        Ok(Progress::Drained)
    }

    fn finish_edit(&mut self, out: &mut Vec<u8>) -> Result<Progress, DownloadError> {
        let result = match &mut self.edit {
            Edit::None => return Ok(Progress::Drained),
            Edit::Live(editor) => return editor.finish(out).map_err(DownloadError::Edit),
            Edit::Whole(editor) => editor.finish(),
        };
        match result {
            // What came is kept beside it until all has gone.
            Ok(body) if self.take_room(body.len()) => out.extend_from_slice(&body),
            Ok(_) => self.release(DownloadError::NoRoom, out)?,
            Err(error) => self.release(DownloadError::Edit(error), out)?,
        }
        Ok(Progress::Drained)
    }

    /// Gives what was held back, if the rules allow that.
    fn release(&mut self, error: DownloadError, out: &mut Vec<u8>) -> Result<(), DownloadError> {
        if let Edit::Whole(editor) = &self.edit {
            out.extend_from_slice(editor.received());
        }
        self.give_up(error)
    }

    fn give_up(&mut self, error: DownloadError) -> Result<(), DownloadError> {
        if self.on_error == OnError::Block {
            return Err(error);
        }
        let cause = Cause::of(&error);
        tracing::warn!(%cause, "a response is passed on without edits");
        self.edit = Edit::None;
        Ok(())
    }
}
