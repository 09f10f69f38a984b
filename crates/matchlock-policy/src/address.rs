//! What kind of place an address is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::text::serialize_as_text;

/// What an address is for (IANA special-purpose registries, RFC 6890 and its successors).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// On the public Internet.
    Public,
    /// Public by its range, but an interface of this host has it.
    ThisHost,
    /// RFC 1918, unique local IPv6 (RFC 4193), and the like.
    Private,
    /// Carrier-grade NAT, 100.64.0.0/10 (RFC 6598).
    SharedNat,
    /// The host itself.
    Loopback,
    /// One link only (RFC 3927, RFC 4291 2.5.6).
    LinkLocal,
    /// Where clouds hand out credentials to whoever asks from inside.
    Metadata,
    /// Groups, not hosts.
    Multicast,
    /// No address: systems read it as the host itself.
    Unspecified,
    /// Documentation, benchmarks, protocol assignments, future use.
    Reserved,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::ThisHost => "this host's own",
            Self::Private => "private",
            Self::SharedNat => "shared NAT",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        })
    }
}

serialize_as_text!(AddressClass);

/// The class of `ip`.
///
/// An IPv6 address that carries an IPv4 address (mapped, compatible, translated, NAT64, 6to4,
/// Teredo) is what the IPv4 address is, since a gateway on the way may unpack it.
#[must_use]
pub fn classify(ip: IpAddr) -> AddressClass {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

/// The addresses of this host's interfaces at one moment. The default has none.
///
/// Whoever is allowed the public network is not allowed this host, and a service that listens on
/// all addresses is behind the public ones of the host too.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<[IpAddr]>);

impl OwnAddresses {
    /// The class of `ip` as seen from this host: [`classify`], and
    /// [`ThisHost`](AddressClass::ThisHost) for a public address that is one of these or carries one.
    #[must_use]
    pub fn classify(&self, ip: IpAddr) -> AddressClass {
        match classify(ip) {
            AddressClass::Public if self.reached_by(ip.to_canonical()) => AddressClass::ThisHost,
            class => class,
        }
    }

    fn reached_by(&self, ip: IpAddr) -> bool {
        let carries_one =
            |ip: Ipv6Addr| embedded(ip).any(|v4| self.0.binary_search(&v4.into()).is_ok());
        self.0.binary_search(&ip).is_ok() || matches!(ip, IpAddr::V6(ip) if carries_one(ip))
    }
}

impl FromIterator<IpAddr> for OwnAddresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let mut addresses: Vec<_> = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
        addresses.sort_unstable();
        Self(addresses.into())
    }
}

/// An IPv4 range for a range of IPv4-mapped addresses, any other range without its host bits.
pub(crate) fn canonical_net(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, prefix)
    {
        return IpNet::V4(v4.trunc());
    }
    net.trunc()
}

const METADATA_V4: &[Ipv4Addr] = &[
    // AWS, Azure, Google Cloud, OpenStack, DigitalOcean …
    Ipv4Addr::new(169, 254, 169, 254),
    // AWS: container credentials, and pod identities.
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    // Alibaba Cloud.
    Ipv4Addr::new(100, 100, 100, 200),
    // Oracle Cloud at Compute Classic.
    Ipv4Addr::new(192, 0, 0, 192),
    // Azure's wire server: in the middle of public space, but the platform's own.
    Ipv4Addr::new(168, 63, 129, 16),
];

const METADATA_V6: &[Ipv6Addr] = &[
    // AWS: instance metadata, and pod identities.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    // Google Cloud.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    // Scaleway.
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    if METADATA_V4.contains(&ip) {
        return AddressClass::Metadata;
    }
    match ip.octets() {
        [0, 0, 0, 0] => AddressClass::Unspecified,
        [0, ..] => AddressClass::Reserved,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressClass::Private,
        [100, 64..=127, ..] => AddressClass::SharedNat,
        [127, ..] => AddressClass::Loopback,
        [169, 254, ..] => AddressClass::LinkLocal,
        // Protocol assignments, documentation, the old 6to4 relays.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            AddressClass::Reserved
        }
        // Benchmarks (RFC 2544), and where the guest's synthetic addresses are.
        [198, 18 | 19, ..] => AddressClass::Reserved,
        [224..=239, ..] => AddressClass::Multicast,
        [240..=255, ..] => AddressClass::Reserved,
        _ => AddressClass::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    if METADATA_V6.contains(&ip) {
        return AddressClass::Metadata;
    }
    if ip.is_unspecified() {
        return AddressClass::Unspecified;
    }
    if ip.is_loopback() {
        return AddressClass::Loopback;
    }
    if let Some(v4) = ip.to_ipv4_mapped() {
        return classify_v4(v4);
    }
    for v4 in embedded(ip) {
        match classify_v4(v4) {
            AddressClass::Public => {}
            class => return class,
        }
    }
    native_class(ip)
}

/// The class of an address by its own prefix, whatever it carries.
fn native_class(ip: Ipv6Addr) -> AddressClass {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => AddressClass::Public,
        // NAT64 of the local network (RFC 8215): where the IPv4 address is, only its operator
        // knows.
        [0x64, 0xff9b, 1, ..] => AddressClass::Private,
        [0xfc00..=0xfdff, ..] => AddressClass::Private,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        // Site-local, deprecated by RFC 3879.
        [0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        // Teredo.
        [0x2001, 0, ..] => AddressClass::Public,
        // Protocol assignments (2001::/23), documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddressClass::Reserved,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Reserved,
    }
}

/// The IPv4 addresses inside `ip`, by the transition mechanism that its prefix belongs to.
fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let last = join(g, h);
    let (first, second) = match [a, b, c, d, e, f] {
        // Compatible, translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            (Some(last), None)
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => (Some(join(b, c)), None),
        // Teredo: the server, and the client with its bits flipped (RFC 4380 4).
        [0x2001, 0, ..] => (Some(join(c, d)), Some(join(!g, !h))),
        // ISATAP (RFC 5214 6.1).
        [_, _, _, _, 0 | 0x200, 0x5efe] => (Some(last), None),
        _ => (None, None),
    };
    first.into_iter().chain(second)
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}
