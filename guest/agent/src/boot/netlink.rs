//! Messages of rtnetlink(7), as far as a static configuration needs them.

use std::net::IpAddr;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No duplicate address detection: the host assigns the addresses, and they work at once.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const HEADER: usize = 16;

/// A sequence of requests, sent with one system call and acknowledged one by one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    names: Vec<String>,
}

impl Batch {
    /// Brings an interface up, by its name; with an MTU when there is one to set.
    pub(super) fn link_up(&mut self, name: &str, mtu: Option<u32>) {
        let body = [&[0; 8][..], &IFF_UP.to_ne_bytes(), &IFF_UP.to_ne_bytes()].concat();
        let name_z = [name.as_bytes(), &[0]].concat();
        let mut attributes = vec![(IFLA_IFNAME, name_z)];
        attributes.extend(mtu.map(|mtu| (IFLA_MTU, mtu.to_ne_bytes().to_vec())));
        self.push(RTM_NEWLINK, 0, &body, &attributes, format!("bring {name} up"));
    }

    /// Adds an address to the interface with this index.
    pub(super) fn address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        let (family, raw) = family_and_bytes(address);
        let header = [family, prefix, IFA_F_NODAD, RT_SCOPE_UNIVERSE];
        let body = [&header[..], &index.to_ne_bytes()].concat();
        let attributes = [(IFA_LOCAL, raw.clone()), (IFA_ADDRESS, raw)];
        let name = format!("add address {address}/{prefix}");
        self.push(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, &attributes, name);
    }

    /// Adds a default route through the interface with this index.
    pub(super) fn default_route(&mut self, index: u32, gateway: IpAddr) {
        let (family, raw) = family_and_bytes(gateway);
        let kind = [RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST];
        let body = [&[family, 0, 0, 0][..], &kind, &[0; 4]].concat();
        let attributes = [(RTA_GATEWAY, raw), (RTA_OIF, index.to_ne_bytes().to_vec())];
        let name = format!("add the default route by {gateway}");
        self.push(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, &attributes, name);
    }

    /// What to send.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What each request does, in order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        attributes: &[(u16, Vec<u8>)],
        name: String,
    ) {
        let mut payload = body.to_vec();
        for (number, value) in attributes {
            payload.extend((4 + value.len() as u16).to_ne_bytes());
            payload.extend(number.to_ne_bytes());
            payload.extend(value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let sequence = self.names.len() as u32;
        self.bytes.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(payload);
        self.names.push(name);
    }
}

/// The acknowledgements in one datagram of the kernel: sequence number and errno, 0 for success.
pub(super) fn acknowledgements(mut datagram: &[u8]) -> Vec<(u32, i32)> {
    let mut found = Vec::new();
    while let Some((header, _)) = datagram.split_first_chunk::<20>() {
        let word = |at: usize| header.get(at..).and_then(<[u8]>::first_chunk::<4>).copied();
        let length = u32::from_ne_bytes(word(0).unwrap_or_default()) as usize;
        let kind = header.get(4..).and_then(<[u8]>::first_chunk::<2>).copied();
        if u16::from_ne_bytes(kind.unwrap_or_default()) == NLMSG_ERROR {
            let sequence = u32::from_ne_bytes(word(8).unwrap_or_default());
            let error = i32::from_ne_bytes(word(16).unwrap_or_default());
            found.push((sequence, error.saturating_neg()));
        }
        let next = length.max(HEADER).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    found
}

fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_encoded_as_rtnetlink_has_it() {
        let mut batch = Batch::default();
        batch.address(2, "10.0.0.5".parse().expect("an address"), 24);
        let expected = [
            &[40, 0, 0, 0, 20, 0, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], // nlmsghdr
            &[2, 24, 2, 0, 2, 0, 0, 0],                              // ifaddrmsg
            &[8, 0, 2, 0, 10, 0, 0, 5],                              // IFA_LOCAL
            &[8, 0, 1, 0, 10, 0, 0, 5],                              // IFA_ADDRESS
        ]
        .concat();
        assert_eq!(batch.as_bytes(), expected);
    }

    #[test]
    fn a_link_is_named_and_padded() {
        let mut batch = Batch::default();
        batch.link_up("lo", None);
        batch.link_up("eth0", Some(65_000));
        let expected = [
            &[40, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], // ifinfomsg
            &[7, 0, 3, 0, b'l', b'o', 0, 0],
            &[52, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
            &[9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0],
            &[8, 0, 4, 0, 0xe8, 0xfd, 0, 0],
        ]
        .concat();
        assert_eq!(batch.as_bytes(), expected);
        assert_eq!(batch.names(), ["bring lo up", "bring eth0 up"]);
    }

    #[test]
    fn a_default_route_has_no_destination() {
        let mut batch = Batch::default();
        batch.default_route(2, "fd00::1".parse().expect("an address"));
        let body = batch.as_bytes().get(16..28).expect("an rtmsg");
        assert_eq!(body, [10, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn acknowledgements_carry_the_number_and_the_error() {
        let ack = |sequence: u32, error: i32| {
            let mut bytes = [36u32.to_ne_bytes(), [2, 0, 0, 0]].concat();
            bytes.extend([sequence.to_ne_bytes(), [0; 4], error.to_ne_bytes()].concat());
            bytes.extend([0; 16]);
            bytes
        };
        let datagram = [ack(0, 0), ack(1, -17)].concat();
        assert_eq!(acknowledgements(&datagram), [(0, 0), (1, 17)]);
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any_answer = acknowledgements(&bytes);
        }
    }
}
