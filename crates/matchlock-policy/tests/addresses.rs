//! Which addresses may be dialled, in every form that carries one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use matchlock_policy::{AddressClass, InvalidRange, OwnAddresses, PrivateAccess, classify};
use proptest::prelude::*;

use AddressClass::{
    LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved, SharedNat, ThisHost,
    Unspecified,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// On a host without interfaces.
fn admit(access: &PrivateAccess, ip: IpAddr) -> Result<(), AddressClass> {
    access.admit(ip, &OwnAddresses::default())
}

/// First and last address of each IPv4 range that is not public.
const BLOCKED_V4: &[(&str, &str, AddressClass)] = &[
    ("0.0.0.0", "0.0.0.0", Unspecified),
    ("0.0.0.1", "0.255.255.255", Reserved),
    ("10.0.0.0", "10.255.255.255", Private),
    ("100.64.0.0", "100.127.255.255", SharedNat),
    ("127.0.0.0", "127.255.255.255", Loopback),
    ("169.254.0.0", "169.254.255.255", LinkLocal),
    ("169.254.169.254", "169.254.169.254", Metadata),
    ("169.254.170.2", "169.254.170.2", Metadata),
    ("100.100.100.200", "100.100.100.200", Metadata),
    ("168.63.129.16", "168.63.129.16", Metadata),
    ("172.16.0.0", "172.31.255.255", Private),
    ("192.0.0.0", "192.0.0.255", Reserved),
    ("192.0.2.0", "192.0.2.255", Reserved),
    ("192.88.99.0", "192.88.99.255", Reserved),
    ("192.168.0.0", "192.168.255.255", Private),
    ("198.18.0.0", "198.19.255.255", Reserved),
    ("198.51.100.0", "198.51.100.255", Reserved),
    ("203.0.113.0", "203.0.113.255", Reserved),
    ("224.0.0.0", "239.255.255.255", Multicast),
    ("240.0.0.0", "255.255.255.255", Reserved),
];

#[test]
fn addresses_have_the_class_of_their_range() {
    for &(first, last, class) in BLOCKED_V4 {
        assert_eq!((classify(ip(first)), classify(ip(last))), (class, class), "{first} to {last}");
    }
    for text in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
    ] {
        assert_eq!(classify(ip(text)), Public, "{text}");
    }
}

#[test]
fn ipv6_addresses_have_the_class_of_their_range() {
    for (text, class) in [
        ("::", Unspecified),
        ("::1", Loopback),
        ("::2", Reserved),
        ("100::1", Reserved),
        ("2001:2::1", Reserved),
        ("2001:20::1", Reserved),
        ("2001:db8::1", Reserved),
        ("3fff::1", Reserved),
        ("3fff:fff:ffff::", Reserved),
        ("4000::1", Reserved),
        ("5f00::1", Reserved),
        ("fc00::", Private),
        ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private),
        ("fd00:ec2::254", Metadata),
        ("fd20:ce::254", Metadata),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("fec0::1", Private),
        ("ff02::1", Multicast),
        ("64:ff9b:1::a9fe:a9fe", Private),
        ("2000::1", Public),
        ("2001:200::1", Public),
        ("2606:4700::1111", Public),
        ("3ffe::1", Public),
    ] {
        assert_eq!(classify(ip(text)), class, "{text}");
    }
}

#[test]
fn addresses_inside_addresses_are_seen() {
    for (text, class) in [
        ("::ffff:169.254.169.254", Metadata),
        ("::169.254.169.254", Metadata),
        ("::ffff:0:127.0.0.1", Loopback),
        ("64:ff9b::a9fe:a9fe", Metadata),
        ("64:ff9b::7f00:1", Loopback),
        ("64:ff9b::808:808", Public),
        ("2002:7f00:1::1", Loopback),
        ("2002:a9fe:a9fe::", Metadata),
        ("2002:808:808::1", Public),
        // A private server, a private client, neither.
        ("2001:0:a00:1::f7f7:f7f7", Private),
        ("2001:0:808:808::f5ff:fffe", Private),
        ("2001:0:808:808::f7f7:f7f7", Public),
        ("2606:4700::5efe:10.0.0.1", Private),
        ("2606:4700::200:5efe:127.0.0.1", Loopback),
        ("::8.8.8.8", Reserved),
    ] {
        assert_eq!(classify(ip(text)), class, "{text}");
    }
}

#[test]
fn by_default_only_public_addresses_are_admitted() {
    let none = PrivateAccess::default();
    assert_eq!(none, PrivateAccess::none());
    assert_eq!(admit(&none, ip("8.8.8.8")), Ok(()));
    for &(first, last, class) in BLOCKED_V4 {
        assert_eq!((admit(&none, ip(first)), admit(&none, ip(last))), (Err(class), Err(class)));
    }
}

#[test]
fn the_bare_flag_opens_local_networks_and_no_more() {
    let local: PrivateAccess = "".parse().expect("bare");
    for text in
        ["10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1"]
    {
        assert_eq!(admit(&local, ip(text)), Ok(()), "{text}");
    }
    for text in [
        "127.0.0.1",
        "::1",
        "169.254.1.1",
        "fe80::1",
        "169.254.169.254",
        "100.100.100.200",
        "fd00:ec2::254",
        "0.0.0.0",
        "198.18.0.1",
        "240.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "fec0::1",
        "224.0.0.1",
        "168.63.129.16",
    ] {
        assert!(admit(&local, ip(text)).is_err(), "{text}");
    }
}

#[test]
fn explicit_ranges_open_what_is_in_them() {
    let some: PrivateAccess =
        "127.0.0.1, 169.254.169.254/32,[::1],fe80::/10".parse().expect("ranges");
    for text in ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "::1", "fe80::5"] {
        assert_eq!(admit(&some, ip(text)), Ok(()), "{text}");
    }
    for text in ["127.0.0.2", "169.254.169.253", "10.0.0.1", "64:ff9b::7f00:1"] {
        assert!(admit(&some, ip(text)).is_err(), "{text}");
    }
    let mapped: PrivateAccess = "::ffff:10.0.0.0/104".parse().expect("range");
    assert_eq!(admit(&mapped, ip("10.0.0.1")), Ok(()));
    for text in ["10.0.0.0/99", "localhost", "10.0.0.1,", "10.0.0.1:80"] {
        assert_eq!(text.parse::<PrivateAccess>(), Err(InvalidRange), "{text}");
    }
}

/// Issue 9.
#[test]
fn a_public_address_of_this_host_is_opened_by_its_name_alone() {
    let own: OwnAddresses =
        ["11.0.0.1", "2a00::1", "192.168.1.5", "::ffff:11.0.0.2"].map(ip).into_iter().collect();
    let of_host =
        ["11.0.0.1", "::ffff:11.0.0.1", "64:ff9b::b00:1", "2002:b00:1::9", "2a00::1", "11.0.0.2"];
    let named: PrivateAccess = "11.0.0.1,2a00::1/128,11.0.0.2".parse().expect("ranges");
    let wide: PrivateAccess = "11.0.0.0/24,2a00::/64,2002::/16".parse().expect("ranges");
    for text in of_host {
        assert_eq!(own.classify(ip(text)), ThisHost, "{text}");
        for access in [PrivateAccess::none(), PrivateAccess::local(), wide.clone()] {
            assert_eq!(access.admit(ip(text), &own), Err(ThisHost), "{text}");
        }
        let carries = text.starts_with("64:") || text.starts_with("2002:");
        assert_eq!(named.admit(ip(text), &own).is_ok(), !carries, "{text}");
        assert_eq!(PrivateAccess::everything().admit(ip(text), &own), Ok(()), "{text}");
    }
    for text in ["11.0.0.3", "2a00::2", "64:ff9b::b00:3"] {
        assert_eq!(PrivateAccess::none().admit(ip(text), &own), Ok(()), "{text}");
    }
    assert_eq!(own.classify(ip("192.168.1.5")), Private, "its range says so already");
}

#[test]
fn what_is_no_host_is_never_opened() {
    let all: PrivateAccess = "0.0.0.0/0,::/0".parse().expect("ranges");
    for access in [PrivateAccess::everything(), all] {
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0", "64:ff9b::"] {
            assert!(admit(&access, ip(text)).is_err(), "{text}");
        }
        assert_eq!(admit(&access, ip("127.0.0.1")), Ok(()));
        assert_eq!(admit(&access, ip("169.254.169.254")), Ok(()));
    }
}

#[test]
fn flags_add_up() {
    let local = PrivateAccess::local();
    let both = local.and(&"127.0.0.1".parse().expect("range"));
    assert_eq!((admit(&both, ip("10.0.0.1")), admit(&both, ip("127.0.0.1"))), (Ok(()), Ok(())));
    assert!(admit(&both, ip("127.0.0.2")).is_err());
    assert_eq!(local.and(&PrivateAccess::everything()), PrivateAccess::everything());
}

/// Any IPv4 address that must not be reached.
fn blocked_v4() -> impl Strategy<Value = Ipv4Addr> {
    proptest::sample::select(BLOCKED_V4).prop_flat_map(|(first, last, _)| {
        let bits = |text: &str| text.parse::<Ipv4Addr>().expect("address").to_bits();
        (bits(first)..=bits(last)).prop_map(Ipv4Addr::from_bits)
    })
}

/// Each way to write an IPv4 address into an IPv6 one; `noise` fills what is free.
fn embeddings(v4: Ipv4Addr, noise: u128) -> [(&'static str, Ipv6Addr); 9] {
    let own = u128::from(v4.to_bits());
    let low = |bits: u32| noise & ((1 << bits) - 1);
    let teredo = 0x2001_0000_u128 << 96;
    let public_server = 0x0808_0808_u128 << 64;
    let isatap = 0x2606_4700_u128 << 96 | low(64) << 32 & (0xffff_ffff << 64) | 0x5efe << 32;
    [
        ("mapped", v4.to_ipv6_mapped()),
        ("compatible", Ipv6Addr::from_bits(own)),
        ("translated", Ipv6Addr::from_bits(0xffff_0000_u128 << 32 | own)),
        ("NAT64", Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | own)),
        ("6to4", Ipv6Addr::from_bits(0x2002_u128 << 112 | own << 80 | low(80))),
        ("Teredo server", Ipv6Addr::from_bits(teredo | own << 64 | low(64))),
        ("Teredo client", Ipv6Addr::from_bits(teredo | public_server | own ^ 0xffff_ffff)),
        ("ISATAP", Ipv6Addr::from_bits(isatap | own)),
        ("global ISATAP", Ipv6Addr::from_bits(isatap | 0x0200_u128 << 48 | own)),
    ]
}

proptest! {
    #[test]
    fn no_form_of_a_blocked_address_is_public(v4 in blocked_v4(), noise: u128) {
        prop_assert_ne!(classify(v4.into()), Public);
        for (form, v6) in embeddings(v4, noise) {
            prop_assert_ne!(classify(v6.into()), Public, "{} {}", form, v6);
            prop_assert!(admit(&PrivateAccess::none(), v6.into()).is_err());
        }
    }

    #[test]
    fn public_ipv6_is_global_unicast_or_nat64(v6: Ipv6Addr) {
        let global = v6.segments()[0] >> 13 == 1;
        let carries = v6.to_ipv4_mapped().is_some() || v6.segments()[..2] == [0x64, 0xff9b];
        prop_assert!(classify(v6.into()) != Public || global || carries);
    }

    #[test]
    fn everything_opens_all_that_is_a_host(ip: IpAddr) {
        let never = matches!(classify(ip), Unspecified | Multicast);
        prop_assert_eq!(admit(&PrivateAccess::everything(), ip).is_err(), never);
    }
}
