//! What is fuzzed: one function for each decoder of bytes that the other side of a boundary chooses.
//!
//! A target is a plain function of bytes that panics when a property does not hold. `cargo fuzz`
//! runs it by way of a file of one line in `fuzz_targets/`; `tests/smoke.rs` runs it on the stable
//! compiler over `corpus/<target>` and mutations of that. To add one: the function, a line in
//! [`TARGETS`], the file, its `[[bin]]`, and at least one seed. The smoke test finds what is missing.

mod client_hello;
mod dns;
mod dockerfile;
mod fuse;
mod h1;
mod http2;
mod image;
mod policy;
mod proto;
mod rewrite;
mod rpc;
mod speech;
mod stack;
mod vsock;

pub use client_hello::client_hello;
pub use dns::{dns_answer, dns_query};
pub use dockerfile::dockerfile;
pub use fuse::fuse_server;
pub use h1::{h1_request, h1_response};
pub use http2::http2;
pub use image::{erofs, layer, manifest};
pub use policy::{host_pattern, secret_spec};
pub use proto::{control_frame, proto_agent, proto_host};
pub use rewrite::{body_rewrite, hook_reply, rewrite_request, sse_editor};
pub use rpc::rpc_line;
pub use speech::speech;
pub use stack::ethernet_stack;
pub use vsock::{vsock_device, vsock_packets};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target, with the name of its binary and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("body_rewrite", body_rewrite),
    ("client_hello", client_hello),
    ("control_frame", control_frame),
    ("dns_answer", dns_answer),
    ("dns_query", dns_query),
    ("dockerfile", dockerfile),
    ("erofs", erofs),
    ("ethernet_stack", ethernet_stack),
    ("fuse_server", fuse_server),
    ("host_pattern", host_pattern),
    ("h1_request", h1_request),
    ("h1_response", h1_response),
    ("hook_reply", hook_reply),
    ("http2", http2),
    ("layer", layer),
    ("manifest", manifest),
    ("proto_agent", proto_agent),
    ("proto_host", proto_host),
    ("rewrite_request", rewrite_request),
    ("rpc_line", rpc_line),
    ("secret_spec", secret_spec),
    ("speech", speech),
    ("sse_editor", sse_editor),
    ("vsock_device", vsock_device),
    ("vsock_packets", vsock_packets),
];

/// Runs a target over the files that are named as arguments, to look at what the fuzzer found
/// without the fuzzer.
pub fn replay(target: Target) {
    for path in std::env::args_os().skip(1) {
        let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        target(&input);
    }
}

/// The whole content of a file in `fuzz_targets/`.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::$name(input));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::replay($crate::$name);
        }
    };
}
