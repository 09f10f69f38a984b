//! Header fields as they came, in their order and case.
