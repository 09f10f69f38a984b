//! Keys of the build cache: a digest over all that a step's layer depends on.

use matchlock_image::digest::{Digest, Hasher};

/// Changes when steps make other layers from the same.
const VERSION: &str = "matchlock-build-v1";

/// A key in the making. Fields are hashed with their lengths, so that no two lists are alike.
#[derive(Debug, Clone)]
pub(crate) struct Key(Hasher);

impl Key {
    /// For a step of this kind on top of these layers.
    pub(crate) fn new(kind: &str, layers: &[Digest]) -> Self {
        let mut key = Self(Hasher::default());
        key.text(VERSION);
        key.text(kind);
        key.number(layers.len() as u64);
        for layer in layers {
            key.text(&layer.to_string());
        }
        key
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Adds bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// Adds text.
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds a list.
    pub(crate) fn list<'a>(&mut self, list: impl ExactSizeIterator<Item = &'a str>) {
        self.number(list.len() as u64);
        list.for_each(|text| self.text(text));
    }

    /// The key.
    pub(crate) fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_that_differ_have_other_keys(
            one in prop::collection::vec("[ab]{0,3}", 0..4), other in prop::collection::vec("[ab]{0,3}", 0..4)
        ) {
            let key = |list: &[String]| {
                let mut key = Key::new("RUN", &[]);
                key.list(list.iter().map(String::as_str));
                key.list([].into_iter());
                key.finish()
            };
            prop_assert_eq!(key(&one) == key(&other), one == other);
        }
    }
}
