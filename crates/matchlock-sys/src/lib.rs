//! Every host system call that needs `unsafe`, behind a safe function.
//!
//! It knows nothing of sandboxes. What `rustix` or `std` offer safely is called directly where it is
//! needed and has no wrapper here.

mod child;
mod tsc;

pub use child::{BoundChild, spawn_bound};
pub use tsc::TscReading;
