//! What happened on the network, for the audit trail.
