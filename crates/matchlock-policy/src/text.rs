//! Small helpers for types that have one textual form.

/// `Serialize` as the text of `Display`.
macro_rules! serialize_as_text {
    ($($type:ty),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}

pub(crate) use serialize_as_text;
