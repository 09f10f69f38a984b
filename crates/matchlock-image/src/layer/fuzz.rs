//! The entry for a fuzzer: a layer that is anything.
