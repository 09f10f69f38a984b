//! Flow to decision to relay: where the parts of the network meet.
