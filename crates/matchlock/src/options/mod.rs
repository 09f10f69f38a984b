//! The values of flags, checked: what several commands take.

pub(crate) mod confinement;
pub(crate) mod disks;
pub(crate) mod lists;
pub(crate) mod network;
pub(crate) mod secrets;
pub(crate) mod size;
pub(crate) mod time_span;
pub(crate) mod variables;

pub(crate) use matchlock_core::text::duration;
