//! The grammar of `--add-host`.

use std::net::IpAddr;

use crate::name::{HostName, InvalidName};

/// Reads `host:ip`; the address may be IPv6, with or without brackets.
///
/// # Errors
/// When there is no colon, the host is not a name or the address is not one.
pub fn parse_add_host(text: &str) -> Result<(HostName, IpAddr), InvalidAddHost> {
    let (name, ip) = text.split_once(':').ok_or(InvalidAddHost::Form)?;
    let ip = ip.trim();
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    Ok((name.trim().parse()?, ip.parse().map_err(|_| InvalidAddHost::Address)?))
}

/// Why a text is not a `host:ip` mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddHost {
    /// There is no colon.
    #[error("expected host:ip")]
    Form,
    /// The host is not a name.
    #[error("invalid host")]
    Name(#[from] InvalidName),
    /// What follows the colon is not an address.
    #[error("the address is not a valid IP address")]
    Address,
}
