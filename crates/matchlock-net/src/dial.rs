//! Connections to the outside: name to checked addresses to a stream.
