//! The `gzip` coding (RFC 1952): members one after the other, each with a check of its data.

use flate2::Crc;

use super::Step;
use super::inflate::Inflate;

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

pub(super) struct Malformed;

/// Where in a member the next byte is.
pub(super) enum Gzip {
    /// `at` of the fixed part, in bytes; the flags are known after the fourth.
    Fixed {
        at: usize,
        flags: u8,
    },
    /// The parts that flags announce, in the order of the flags.
    Optional {
        flags: u8,
        part: Part,
    },
    Body(Box<Body>),
    /// CRC-32 and length, little-endian.
    Trailer {
        sum: [u8; 8],
        at: usize,
    },
    /// Another member may follow.
    Between,
}

pub(super) enum Part {
    ExtraLength(Option<u8>),
    Skip(u16),
    Text,
}

pub(super) struct Body {
    inflate: Inflate,
    check: Crc,
}

impl Default for Gzip {
    fn default() -> Self {
        Self::Fixed { at: 0, flags: 0 }
    }
}

impl Gzip {
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Malformed> {
        let mut read = 0;
        loop {
            if let Self::Body(body) = self {
                let step = body.inflate.step(&input[read..], out).map_err(|_| Malformed)?;
                body.check.update(&out[..step.written]);
                read += step.read;
                if body.inflate.ended {
                    *self = Self::Trailer { sum: trailer(&body.check), at: 0 };
                }
                if step.written > 0 || read == input.len() || step.read == 0 {
                    return Ok(Step { read, written: step.written });
                }
            } else {
                let Some(&byte) = input.get(read) else {
                    return Ok(Step { read, written: 0 });
                };
                self.byte(byte)?;
                read += 1;
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Between)
    }

    /// Takes a byte that is not of the compressed data.
    fn byte(&mut self, byte: u8) -> Result<(), Malformed> {
        match self {
            Self::Between => {
                *self = Self::default();
                return self.byte(byte);
            }
            Self::Fixed { at, flags } => {
                let right = match *at {
                    0 => byte == 0x1f,
                    1 => byte == 0x8b,
                    2 => byte == 8,
                    3 => byte & RESERVED == 0,
                    _ => true,
                };
                if !right {
                    return Err(Malformed);
                }
                if *at == 3 {
                    *flags = byte;
                }
                *at += 1;
                if *at == 10 {
                    *self = Self::optional(*flags);
                }
            }
            Self::Optional { flags, part } => {
                let done = match part {
                    Part::ExtraLength(None) => {
                        *part = Part::ExtraLength(Some(byte));
                        false
                    }
                    Part::ExtraLength(Some(low)) => {
                        let length = u16::from_le_bytes([*low, byte]);
                        *part = Part::Skip(length);
                        length == 0
                    }
                    Part::Skip(left) => {
                        *left -= 1;
                        *left == 0
                    }
                    Part::Text => byte == 0,
                };
                if done {
                    *self = Self::optional(*flags);
                }
            }
            Self::Trailer { sum, at } => {
                if sum[*at] != byte {
                    return Err(Malformed);
                }
                *at += 1;
                if *at == sum.len() {
                    *self = Self::Between;
                }
            }
            Self::Body(_) => {}
        }
        Ok(())
    }

    /// The next part that the flags announce; those that were read are cleared in them.
    fn optional(flags: u8) -> Self {
        let (flag, part) = match flags {
            _ if flags & FEXTRA != 0 => (FEXTRA, Part::ExtraLength(None)),
            _ if flags & FNAME != 0 => (FNAME, Part::Text),
            _ if flags & FCOMMENT != 0 => (FCOMMENT, Part::Text),
            _ if flags & FHCRC != 0 => (FHCRC, Part::Skip(2)),
            _ => {
                let body = Body { inflate: Inflate::new(false), check: Crc::new() };
                return Self::Body(Box::new(body));
            }
        };
        Self::Optional { flags: flags & !flag, part }
    }
}

fn trailer(check: &Crc) -> [u8; 8] {
    let mut sum = [0; 8];
    sum[..4].copy_from_slice(&check.sum().to_le_bytes());
    sum[4..].copy_from_slice(&check.amount().to_le_bytes());
    sum
}
