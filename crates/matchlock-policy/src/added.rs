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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_a_name_and_an_address() {
        for (text, name, ip) in [
            ("db.example:10.0.0.5", "db.example", "10.0.0.5"),
            ("DB:::1", "db", "::1"),
            ("db:[2001:DB8::1]", "db", "2001:db8::1"),
        ] {
            let (own_name, own_ip) = parse_add_host(text).expect(text);
            assert_eq!((own_name.as_str(), &*own_ip.to_string()), (name, ip));
        }
        for (text, error) in [
            ("db", InvalidAddHost::Form),
            (":10.0.0.5", InvalidAddHost::Name(InvalidName::Empty)),
            ("d b:10.0.0.5", InvalidAddHost::Name(InvalidName::Character)),
            ("db:", InvalidAddHost::Address),
            ("db:localhost", InvalidAddHost::Address),
            ("10.0.0.5:db", InvalidAddHost::Name(InvalidName::Address)),
        ] {
            assert_eq!(parse_add_host(text), Err(error), "{text}");
        }
    }
}
