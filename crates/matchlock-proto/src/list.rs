//! Values one after the other in a byte stream: the length of each in two bytes, big-endian, and the value.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a length before each value.
const LENGTH: usize = 2;

/// The longest value in bytes.
pub const MAX: usize = 1024;

/// Bytes that are not values of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of the guest is malformed")]
pub struct InvalidEntry;

/// Appends a value to `out`.
pub fn put(value: &impl Serialize, out: &mut Vec<u8>) {
    // Infallible for the types of this crate, and within the bound for every value that a kernel gives.
    let bytes = postcard::to_allocvec(value).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Takes the first value off `bytes`; `None` if they have only a part of it.
///
/// # Errors
/// [`InvalidEntry`].
pub fn take<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<Option<T>, InvalidEntry> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX {
        return Err(InvalidEntry);
    }
    let Some((entry, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    match postcard::take_from_bytes::<T>(entry) {
        Ok((value, [])) => {
            *bytes = rest;
            Ok(Some(value))
        }
        Ok(_) | Err(_) => Err(InvalidEntry),
    }
}
