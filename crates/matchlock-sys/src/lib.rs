//! Every host system call that needs `unsafe`, behind a safe function.
//!
//! It knows nothing of sandboxes. What `rustix` or `std` offer safely is called directly where it is
//! needed; only what several crates do with files in the same way is here, too.

mod child;
mod files;
mod jail;
mod tsc;

pub use child::{BoundChild, spawn_bound, spawn_jailed};
pub use files::{is_locked, link, lock_file, locked_file, private_dir, unnameable, unnamed};
pub use jail::{Jail, Permits, landlock_version};
pub use tsc::TscReading;
