//! Errors with their causes.

use std::error::Error;
use std::fmt;

/// An error, then the causes of it, from the outermost to the innermost.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Shows an error with all its causes on one line: `cannot start: cannot open /x: no such file`.
#[derive(Debug)]
pub struct DescribeChain<'a>(pub &'a dyn Error);

impl fmt::Display for DescribeChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        self.0.source().into_iter().flat_map(causes).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_follow_their_error() {
        let inner = Layer("no such file", None);
        let error = Layer("cannot start", Some(Box::new(Layer("cannot open", Some(inner.into())))));
        assert_eq!(DescribeChain(&error).to_string(), "cannot start: cannot open: no such file");
    }
}
