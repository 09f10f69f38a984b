//! `/init` of the guest.

#[cfg(target_os = "linux")]
fn main() {
    matchlock_agent::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
