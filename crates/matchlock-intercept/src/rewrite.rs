//! Placeholders to secrets in requests, and secrets out of responses.
