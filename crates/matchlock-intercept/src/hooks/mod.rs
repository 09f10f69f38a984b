//! Rules and callbacks that look at requests and responses.
