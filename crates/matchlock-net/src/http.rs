//! HTTP exchanges between the guest and the outside.
