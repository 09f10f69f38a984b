//! Content codings undone, in bounded memory (RFC 9110, section 8.4).
//!
//! However much a few bytes may expand to, no more of it is made than is asked for.

mod gzip;
mod inflate;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use zeroize::Zeroizing;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use crate::headers::{Headers, trim};

/// Codings of one body, at most.
const MAX_CODINGS: usize = 2;
/// Between two codings, in bytes.
const BUFFER: usize = 16 * 1024;
/// What one call of [`Decoder::pull`] appends, at most, in bytes.
pub(crate) const MAX_PULL: usize = 64 * 1024;
/// log2 of 8 MiB, the largest window of this coding (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;

/// A body whose text cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// A coding of another name, which is the server's to choose and is not repeated.
    #[error("the content coding is not gzip, deflate, br, zstd or identity")]
    Unknown,
    /// More codings than anyone needs.
    #[error("the body has more than {MAX_CODINGS} content codings")]
    Stacked,
    /// Not what the coding says.
    #[error("the body is not of its content coding, {coding}")]
    Malformed {
        /// Its name.
        coding: &'static str,
        /// What its decoder says.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The end came too soon.
    #[error("the body ends within its content coding, {coding}")]
    Truncated {
        /// Its name.
        coding: &'static str,
    },
}

/// Whether a machine has more to give of what it was given.
#[must_use = "if there is more, it has to be fetched before the machine is given anything else"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It gave everything.
    Drained,
    /// The output is bounded and there may be more of it: call again, with nothing to push.
    More,
}

/// The codings of a body, as its headers list them, in one line.
#[must_use]
pub fn content_encoding(headers: &Headers) -> Option<Vec<u8>> {
    let codings: Vec<&[u8]> = headers.members("content-encoding").collect();
    (!codings.is_empty()).then(|| codings.join(&b", "[..]))
}

/// Undoes the content codings of a body.
pub struct Decoder {
    stages: Vec<Stage>,
    source: Source,
    ended: bool,
}

impl Decoder {
    /// For the value of `Content-Encoding`; `None` if the body is plain.
    ///
    /// # Errors
    ///
    /// For codings that are not known, or too many of them.
    pub fn new(content_encoding: Option<&[u8]>) -> Result<Option<Self>, Undecodable> {
        let mut stages = Vec::new();
        let names = content_encoding.unwrap_or_default().split(|&byte| byte == b',').map(trim);
        // They are listed in the order in which they were applied.
        for name in names.rev().filter(|name| !name.is_empty()) {
            let Some(coding) = Coding::of(name)? else { continue };
            if stages.len() == MAX_CODINGS {
                return Err(Undecodable::Stacked);
            }
            stages.push(Stage::new(coding));
        }
        // The first stage is the one that reads the body.
        let source = Source::default();
        Ok((!stages.is_empty()).then_some(Self { stages, source, ended: false }))
    }

    /// Takes a part of the body, of which [`Decoder::pull`] gives the text.
    pub fn push(&mut self, input: &[u8]) {
        self.source.push(input);
    }

    /// Says that there is no more of the body.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// Appends some of the text, not more than 64 KiB of it.
    ///
    /// # Errors
    ///
    /// If the body is not of its codings. Nothing can be done with the rest then.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> Result<Progress, Undecodable> {
        let start = out.len();
        let mut chunk = Zeroizing::new([0; BUFFER]);
        while out.len() - start <= MAX_PULL - BUFFER {
            let len = pull(&mut self.stages, &mut self.source, &mut *chunk)?;
            if len == 0 {
                return self.check_end().map(|()| Progress::Drained);
            }
            out.extend_from_slice(&chunk[..len]);
        }
        Ok(Progress::More)
    }

    fn check_end(&self) -> Result<(), Undecodable> {
        // No body at all is what a response to HEAD has.
        if !self.ended || self.source.total == 0 {
            return Ok(());
        }
        let open = self.stages.iter().find(|stage| !stage.coding.is_complete());
        open.map_or(Ok(()), |stage| Err(Undecodable::Truncated { coding: stage.coding.name() }))
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.stages.iter().map(|stage| stage.coding.name())).finish()
    }
}

/// What was pushed and not read.
#[derive(Default)]
struct Source {
    bytes: Zeroizing<Vec<u8>>,
    read: usize,
    total: u64,
}

impl Source {
    fn push(&mut self, input: &[u8]) {
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        }
        super::stream::extend(&mut self.bytes, input);
        self.total += input.len() as u64;
    }

    fn read(&mut self, out: &mut [u8]) -> usize {
        let left = &self.bytes[self.read..];
        let len = left.len().min(out.len());
        out[..len].copy_from_slice(&left[..len]);
        self.read += len;
        len
    }
}

/// A coding with what it has yet to read.
struct Stage {
    coding: Coding,
    input: Zeroizing<Vec<u8>>,
    read: usize,
    /// Whether the output was full the last time: there may be more without any input.
    full: bool,
}

impl Stage {
    fn new(coding: Coding) -> Self {
        Self { coding, input: Zeroizing::default(), read: 0, full: false }
    }
}

/// The next bytes that come out of the last of the stages; none if the source has to give more
/// first.
fn pull(stages: &mut [Stage], source: &mut Source, out: &mut [u8]) -> Result<usize, Undecodable> {
    let Some((stage, before)) = stages.split_last_mut() else {
        return Ok(source.read(out));
    };
    loop {
        if stage.full || stage.read < stage.input.len() {
            let step = stage.coding.step(&stage.input[stage.read..], out)?;
            stage.read += step.read;
            stage.full = step.written == out.len();
            if step.written > 0 {
                return Ok(step.written);
            }
            if stage.read < stage.input.len() && step.read == 0 {
                return Err(stage.coding.malformed(None));
            }
            continue;
        }
        stage.input.resize(BUFFER, 0);
        stage.read = 0;
        let len = pull(before, source, &mut stage.input)?;
        stage.input.truncate(len);
        if len == 0 {
            return Ok(0);
        }
    }
}

/// What a decoder did in one step: it reads everything unless its output is full or its data ended.
struct Step {
    read: usize,
    written: usize,
}

enum Coding {
    Gzip(gzip::Gzip),
    Deflate(inflate::Deflate),
    Brotli { state: Box<Brotli>, ended: bool },
    Zstd { decoder: ZstdDecoder<'static>, complete: bool },
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

impl Coding {
    /// `None` for the coding that is none.
    fn of(name: &[u8]) -> Result<Option<Self>, Undecodable> {
        let coding = match &name.to_ascii_lowercase()[..] {
            b"identity" => return Ok(None),
            // RFC 9110, section 8.4.1.3: they mean the same.
            b"gzip" | b"x-gzip" => Self::Gzip(gzip::Gzip::default()),
            b"deflate" => Self::Deflate(inflate::Deflate::default()),
            b"br" => {
                let alloc = StandardAlloc::default;
                // Strict: without the windows of up to 1 GiB that are an extension.
                let state = BrotliState::new_strict(alloc(), alloc(), alloc());
                Self::Brotli { state: Box::new(state), ended: false }
            }
            b"zstd" => Self::zstd().map_err(|source| Undecodable::Malformed {
                coding: "zstd",
                source: Some(source),
            })?,
            _ => return Err(Undecodable::Unknown),
        };
        Ok(Some(coding))
    }

    fn zstd() -> std::io::Result<Self> {
        let mut decoder = ZstdDecoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Self::Zstd { decoder, complete: false })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Deflate(_) => "deflate",
            Self::Brotli { .. } => "br",
            Self::Zstd { .. } => "zstd",
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Undecodable> {
        match self {
            Self::Gzip(gzip) => {
                gzip.step(input, out).map_err(|gzip::Malformed| self.malformed(None))
            }
            Self::Deflate(deflate) => {
                deflate.step(input, out).map_err(|error| self.malformed(Some(error.into())))
            }
            Self::Brotli { state, ended } => {
                let step = brotli(state, ended, input, out);
                step.ok_or_else(|| self.malformed(None))
            }
            Self::Zstd { decoder, complete } => match decoder.run_on_buffers(input, out) {
                Ok(status) => {
                    *complete = status.remaining == 0;
                    Ok(Step { read: status.bytes_read, written: status.bytes_written })
                }
                Err(error) => Err(self.malformed(Some(error))),
            },
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_complete(),
            Self::Deflate(deflate) => deflate.is_complete(),
            Self::Brotli { ended, .. } => *ended,
            Self::Zstd { complete, .. } => *complete,
        }
    }

    fn malformed(&self, source: Option<std::io::Error>) -> Undecodable {
        Undecodable::Malformed { coding: self.name(), source }
    }
}

fn brotli(state: &mut Brotli, ended: &mut bool, input: &[u8], out: &mut [u8]) -> Option<Step> {
    if *ended {
        return Some(Step { read: 0, written: 0 });
    }
    let (mut left, mut read, mut room, mut written) = (input.len(), 0, out.len(), 0);
    let mut total = 0;
    let result = BrotliDecompressStream(
        &mut left,
        &mut read,
        input,
        &mut room,
        &mut written,
        out,
        &mut total,
        state,
    );
    match result {
        BrotliResult::ResultFailure => return None,
        BrotliResult::ResultSuccess => *ended = true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
    }
    Some(Step { read, written })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::encode;
