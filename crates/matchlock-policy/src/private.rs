//! Which addresses off the public Internet may be reached all the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::{AddressClass, OwnAddresses, canonical_net};

/// Addresses that are not public and may be dialled nevertheless; by default none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrivateAccess(Access);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Access {
    Everything,
    Ranges { local: bool, explicit: Arc<[IpNet]> },
}

impl Default for Access {
    fn default() -> Self {
        Self::Ranges { local: false, explicit: Arc::new([]) }
    }
}

impl PrivateAccess {
    /// Public addresses only.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The networks around the host: RFC 1918, fc00::/7 and 100.64.0.0/10, without the metadata
    /// services that clouds have put there.
    #[must_use]
    pub fn local() -> Self {
        Self(Access::Ranges { local: true, explicit: Arc::new([]) })
    }

    /// These ranges, whatever is in them.
    #[must_use]
    pub fn ranges(ranges: Vec<IpNet>) -> Self {
        let explicit = ranges.into_iter().map(canonical_net).collect();
        Self(Access::Ranges { local: false, explicit })
    }

    /// Every address that can be dialled at all, loopback and metadata included.
    #[must_use]
    pub fn everything() -> Self {
        Self(Access::Everything)
    }

    /// What either opens.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (
            Access::Ranges { local, explicit },
            Access::Ranges { local: other_local, explicit: other_explicit },
        ) = (&self.0, &other.0)
        else {
            return Self::everything();
        };
        let explicit = explicit.iter().chain(other_explicit.iter()).copied().collect();
        Self(Access::Ranges { local: *local || *other_local, explicit })
    }

    /// Whether `ip` may be dialled by a host that has the addresses `own`. A public address of the
    /// host itself is opened by naming it alone; no wider range does.
    ///
    /// # Errors
    /// The class of `ip`, for which nothing was opened.
    pub fn admit(&self, ip: IpAddr, own: &OwnAddresses) -> Result<(), AddressClass> {
        let ip = ip.to_canonical();
        match own.classify(ip) {
            AddressClass::Public => Ok(()),
            class @ (AddressClass::Unspecified | AddressClass::Multicast) => Err(class),
            class => {
                if self.opens(ip, class) {
                    Ok(())
                } else {
                    Err(class)
                }
            }
        }
    }

    fn opens(&self, ip: IpAddr, class: AddressClass) -> bool {
        let Access::Ranges { local, explicit } = &self.0 else {
            return true;
        };
        let is_local = matches!(class, AddressClass::Private | AddressClass::SharedNat);
        if class == AddressClass::ThisHost {
            return explicit.contains(&IpNet::from(ip));
        }
        explicit.iter().any(|range| range.contains(&ip))
            || *local && is_local && LOCAL.iter().any(|range| range.contains(&ip))
    }
}

impl FromStr for PrivateAccess {
    type Err = InvalidRange;

    /// Reads the value of one `--allow-private`: nothing for [`PrivateAccess::local`], else
    /// addresses and CIDR ranges with commas between them.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        if text.trim().is_empty() {
            return Ok(Self::local());
        }
        text.split(',')
            .map(|range| parse_range(range.trim()))
            .collect::<Result<_, _>>()
            .map(Self::ranges)
    }
}

/// The value of `--allow-private` is neither an address nor a CIDR range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address or a range such as 192.168.1.0/24")]
pub struct InvalidRange;

const LOCAL: [IpNet; 5] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
];

fn parse_range(text: &str) -> Result<IpNet, InvalidRange> {
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.into()),
        Err(_) => text.parse().map_err(|_| InvalidRange),
    }
}
