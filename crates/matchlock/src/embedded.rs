//! What the binary carries for the guest.

use matchlock_core::{Artefacts, DiskTemplate};

/// Kernel, initramfs and disk template, as `build.rs` found them.
pub(crate) const ARTEFACTS: Artefacts = Artefacts {
    kernel: include_bytes!(env!("MATCHLOCK_EMBED_KERNEL")),
    initramfs: include_bytes!(env!("MATCHLOCK_EMBED_INITRAMFS")),
    disk_templates: &[
        DiskTemplate {
            size: 16 * 1024 * 1024,
            image: include_bytes!(env!("MATCHLOCK_EMBED_DISK_TEMPLATE")),
        },
        DiskTemplate {
            size: 2 * 1024 * 1024 * 1024,
            image: include_bytes!(env!("MATCHLOCK_EMBED_DISK_TEMPLATE_2G")),
        },
    ],
    volume_template: DiskTemplate {
        size: 64 * 1024 * 1024,
        image: include_bytes!(env!("MATCHLOCK_EMBED_VOLUME_TEMPLATE")),
    },
    digest: env!("MATCHLOCK_EMBED_DIGEST"),
};
