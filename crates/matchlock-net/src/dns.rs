//! The resolver of the guest.
