//! Entries of the fuzz targets.

pub use crate::stack::fuzzing::ethernet_stack;
