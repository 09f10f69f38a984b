//! Ethernet frames to flows.
