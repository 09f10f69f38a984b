//! HTTP/2 with the guest and with the outside.
