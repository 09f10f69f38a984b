//! Builds and checks the guest kernel.
