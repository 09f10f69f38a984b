//! Percent-encoding (RFC 3986, section 2.1).

/// Appends the bytes with everything encoded but what `keep` says and the unreserved characters.
pub(crate) fn encode_into(bytes: &[u8], keep: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(byte);
        } else {
            out.push(b'%');
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

/// The bytes that are meant. A `%` that encodes nothing stands for itself.
pub(crate) fn decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let encoded = match after {
            [high, low, ..] if first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match encoded {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_escapes_are_undone() {
        assert_eq!(decode(b"/a%2Fb%2fc%"), b"/a/b/c%");
        assert_eq!(decode(b"%4%41%zz%+a"), b"%4A%zz%+a");
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        encode_into(&all, b"/", &mut out);
        assert!(out.iter().all(u8::is_ascii_graphic));
        assert_eq!(decode(&out), all);
        out.clear();
        encode_into(b"/a b&c=d~", b"/", &mut out);
        assert_eq!(out, b"/a%20b%26c%3Dd~");
    }
}
