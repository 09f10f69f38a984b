//! The values of flags, checked: what several commands take.

pub(crate) mod disks;
pub(crate) mod duration;
pub(crate) mod lists;
pub(crate) mod network;
pub(crate) mod secrets;
pub(crate) mod variables;
