//! Exchanges with a real web server, the guest being raw bytes or an HTTP/2 client.

mod bench;
mod floods;
mod h1;
mod h2;
mod hooks;
mod properties;
mod raw;
mod secrets;
mod settings;
mod together;
mod words;
