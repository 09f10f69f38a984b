//! The guest, driven through the core library: one shared VM for many cases.
