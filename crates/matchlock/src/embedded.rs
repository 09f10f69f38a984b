//! What the binary carries for the guest.

use matchlock_core::Artefacts;

/// Kernel, initramfs and disk template, as `build.rs` found them.
pub(crate) const ARTEFACTS: Artefacts = Artefacts {
    kernel: include_bytes!(env!("MATCHLOCK_EMBED_KERNEL")),
    initramfs: include_bytes!(env!("MATCHLOCK_EMBED_INITRAMFS")),
    disk_template: include_bytes!(env!("MATCHLOCK_EMBED_DISK_TEMPLATE")),
    digest: env!("MATCHLOCK_EMBED_DIGEST"),
};
