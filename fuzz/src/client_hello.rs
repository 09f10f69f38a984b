//! The first bytes of a guest's TLS connection.

use matchlock_intercept::client_hello::{MAX_HELLO, MAX_RECORDS, Peek, peek};

/// The verdict comes once, whatever follows, and in bounded time.
pub fn client_hello(input: &[u8]) {
    let last = peek(input);
    // Not every length for long inputs: the time would grow with the square.
    for end in (0..input.len()).step_by(input.len() / 256 + 1) {
        let early = peek(&input[..end]);
        assert!(early == Peek::NeedMore || early == last, "{early:?} becomes {last:?} after {end}");
    }
    match last {
        Peek::NeedMore => assert!(input.len() < MAX_HELLO + 5 * MAX_RECORDS, "no end in sight"),
        Peek::Hello(hello) => {
            assert!(hello.sni.is_none() || !hello.invalid_sni);
            assert!(!hello.versions.is_empty());
            assert!(hello.alpn.iter().all(|protocol| !protocol.is_empty()));
        }
        Peek::NotTls | Peek::Malformed => {}
    }
}
