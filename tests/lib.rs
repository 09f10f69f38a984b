//! End-to-end tests of matchlock; everything is in the test targets.
