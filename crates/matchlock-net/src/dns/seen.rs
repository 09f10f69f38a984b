//! Which names the addresses of public answers were given for: for the audit trail only, never for
//! a decision, since the guest need not have asked to know an address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use matchlock_policy::HostName;

/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;
/// Names that are remembered for one address; many share the address of a content network.
const MAX_NAMES_EACH: usize = 4;

/// Names by address, bounded: the address that came first is forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    names: HashMap<IpAddr, VecDeque<HostName>>,
    order: VecDeque<IpAddr>,
}

impl Seen {
    /// Notes that `name` was answered with `address`.
    pub(crate) fn note(&self, address: IpAddr, name: &HostName) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.names.contains_key(&address) {
            if table.order.len() >= MAX_ADDRESSES
                && let Some(oldest) = table.order.pop_front()
            {
                table.names.remove(&oldest);
            }
            table.order.push_back(address);
        }
        let names = table.names.entry(address).or_default();
        names.retain(|known| known != name);
        names.push_front(name.clone());
        names.truncate(MAX_NAMES_EACH);
    }

    /// The names that were answered with `address`, the latest first.
    pub(crate) fn names(&self, address: IpAddr) -> Vec<HostName> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.names.get(&address).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_latest_name_comes_first_and_both_sides_are_bounded() {
        let seen = Seen::default();
        let name = |number: usize| format!("n{number}.example.com").parse().expect("a name");
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(0x0808_0000 + number));
        for number in [0, 1, 2, 3, 4, 1] {
            seen.note(address(0), &name(number));
        }
        assert_eq!(seen.names(address(0)), [name(1), name(4), name(3), name(2)]);
        for number in 1..=u32::try_from(MAX_ADDRESSES).expect("small") {
            seen.note(address(number), &name(0));
        }
        assert_eq!(seen.names(address(0)), []);
        assert_eq!(seen.names(address(1)), [name(0)]);
        assert_eq!(seen.table.lock().expect("unpoisoned").names.len(), MAX_ADDRESSES);
    }
}
