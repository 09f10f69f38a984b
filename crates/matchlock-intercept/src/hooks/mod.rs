//! Rules and callbacks that look at requests and responses.

/// TMP
#[derive(Debug, Default)]
pub struct Rules;
