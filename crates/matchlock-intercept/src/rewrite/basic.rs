//! Credentials of the `Basic` scheme (RFC 7617).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Some clients leave the padding out, and some servers want it so: it is kept as it came.
const PADDED: GeneralPurpose = engine(true);
const UNPADDED: GeneralPurpose = engine(false);

/// `user:password`, in the frame in which it came.
pub(super) struct Basic<'a> {
    /// The name of the scheme and the space after it.
    scheme: &'a [u8],
    padded: bool,
    pub(super) credentials: Zeroizing<Vec<u8>>,
}

impl<'a> Basic<'a> {
    /// `None` if the value is of another scheme, or not Base64.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let scheme = value.get(..5).filter(|name| name.eq_ignore_ascii_case(b"basic"))?;
        let spaces = value[5..].iter().take_while(|&&byte| byte == b' ').count();
        if spaces == 0 {
            return None;
        }
        let (scheme, token) = value.split_at(scheme.len() + spaces);
        let credentials = Zeroizing::new(PADDED.decode(token).ok()?);
        // Where no padding is due, the usual is to write it.
        let padded = token.ends_with(b"=") || credentials.len().is_multiple_of(3);
        Some(Self { scheme, padded, credentials })
    }

    /// The value of the field with other credentials.
    pub(super) fn with(&self, credentials: &[u8]) -> Zeroizing<Vec<u8>> {
        let engine = if self.padded { PADDED } else { UNPADDED };
        let token = Zeroizing::new(engine.encode(credentials));
        let mut value = Vec::with_capacity(self.scheme.len() + token.len());
        value.extend_from_slice(self.scheme);
        value.extend_from_slice(token.as_bytes());
        Zeroizing::new(value)
    }
}

const fn engine(padded: bool) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(padded)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Option<(String, String)> {
        let basic = Basic::parse(value.as_bytes())?;
        let again = basic.with(&basic.credentials).to_vec();
        let credentials = basic.credentials.to_vec();
        Some((String::from_utf8(credentials).unwrap(), String::from_utf8(again).unwrap()))
    }

    #[test]
    fn credentials_keep_their_frame() {
        for (value, credentials) in [
            ("Basic YTpi", "a:b"),
            ("basic  YTpiYg==", "a:bb"),
            ("BASIC YTpiYg", "a:bb"),
            ("Basic YTpiYmI=", "a:bbb"),
        ] {
            let expected = Some((credentials.to_owned(), value.to_owned()));
            assert_eq!(parsed(value), expected, "{value}");
        }
        for value in ["", "Basic", "BasicYTpi", "Bearer YTpi", "Basic Y!pi", "Basic YTpi x"] {
            assert_eq!(parsed(value), None, "{value}");
        }
    }
}
