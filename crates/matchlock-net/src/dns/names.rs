//! Synthetic addresses: what an allowed name looks like to a sealed guest.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use matchlock_policy::HostName;

/// The first address of 198.19.0.0/16, the upper half of the range of RFC 2544 (RFC 6890).
const V4_POOL: u32 = 0xc613_0000;
/// The first address of fd6d:6c6b:0:1::/64 (RFC 4193).
const V6_POOL: u128 = 0xfd6d_6c6b_0000_0001_0000_0000_0000_0000;
/// The highest index. Index 0 and 65535 would be the network's and the broadcast address.
const LAST: u16 = 0xfffe;
/// Names that have an address at one time. A quarter of the pool, so that an address rests for
/// as long as it takes to hand out the other three quarters before another name gets it.
pub(crate) const MAX_NAMES: usize = 16_384;

/// Which name a synthetic address stands for. A name keeps its address while it is known; when
/// the table is full, the least recently used name that no flow holds makes room.
#[derive(Debug)]
pub(crate) struct Names {
    table: Mutex<Table>,
}

/// Every name has an address and is held by a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("every synthetic address is in use")]
pub(crate) struct Exhausted;

/// Keeps the name of an address while a flow uses it.
#[derive(Debug)]
pub(crate) struct Held {
    names: Arc<Names>,
    name: HostName,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self::with_capacity(MAX_NAMES)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { table: Mutex::new(Table { capacity, ..Table::default() }) }
    }

    /// The addresses of `name`, the same as before if it has some.
    pub(crate) fn assign(&self, name: &HostName) -> Result<(Ipv4Addr, Ipv6Addr), Exhausted> {
        self.table().assign(name).map(addresses)
    }

    /// The names that `address` stands for now: one or none.
    pub(crate) fn lookup(&self, address: IpAddr) -> Vec<HostName> {
        let table = self.table();
        index(address).and_then(|index| table.by_index.get(&index)).cloned().into_iter().collect()
    }

    /// The name that `address` stands for, which keeps it until the value is dropped.
    pub(crate) fn hold(self: &Arc<Self>, address: IpAddr) -> Option<Held> {
        let mut table = self.table();
        let name = table.by_index.get(&index(address)?)?.clone();
        table.hold(&name);
        Some(Held { names: Arc::clone(self), name })
    }

    /// Whether `address` is of the pools, with a name or without.
    pub(crate) fn is_synthetic(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.to_bits() & 0xffff_0000 == V4_POOL,
            IpAddr::V6(address) => address.to_bits() >> 64 == V6_POOL >> 64,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    #[cfg(test)]
    pub(crate) fn name(&self) -> &HostName {
        &self.name
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.names.table().release(&self.name);
    }
}

#[derive(Debug, Default)]
struct Table {
    capacity: usize,
    by_name: HashMap<HostName, Entry>,
    by_index: HashMap<u16, HostName>,
    /// Names that no flow holds, by their last use.
    idle: BTreeMap<u64, HostName>,
    clock: u64,
    last_given: u16,
}

#[derive(Debug)]
struct Entry {
    index: u16,
    used: u64,
    flows: usize,
}

impl Table {
    fn assign(&mut self, name: &HostName) -> Result<u16, Exhausted> {
        self.clock += 1;
        if let Some(entry) = self.by_name.get_mut(name) {
            if entry.flows == 0 {
                self.idle.remove(&entry.used);
                self.idle.insert(self.clock, name.clone());
            }
            entry.used = self.clock;
            return Ok(entry.index);
        }
        if self.by_name.len() >= self.capacity {
            self.evict()?;
        }
        let index = self.free_index();
        self.by_name.insert(name.clone(), Entry { index, used: self.clock, flows: 0 });
        self.by_index.insert(index, name.clone());
        self.idle.insert(self.clock, name.clone());
        Ok(index)
    }

    fn evict(&mut self) -> Result<(), Exhausted> {
        let (_, name) = self.idle.pop_first().ok_or(Exhausted)?;
        if let Some(entry) = self.by_name.remove(&name) {
            self.by_index.remove(&entry.index);
        }
        Ok(())
    }

    /// The next one in the order of the pool that no name has. There is one: fewer names are
    /// kept than the pool has addresses.
    fn free_index(&mut self) -> u16 {
        loop {
            self.last_given = if self.last_given >= LAST { 1 } else { self.last_given + 1 };
            if !self.by_index.contains_key(&self.last_given) {
                return self.last_given;
            }
        }
    }

    fn hold(&mut self, name: &HostName) {
        if let Some(entry) = self.by_name.get_mut(name) {
            if entry.flows == 0 {
                self.idle.remove(&entry.used);
            }
            entry.flows += 1;
        }
    }

    fn release(&mut self, name: &HostName) {
        self.clock += 1;
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.flows -= 1;
            if entry.flows == 0 {
                entry.used = self.clock;
                self.idle.insert(self.clock, name.clone());
            }
        }
    }
}

fn addresses(index: u16) -> (Ipv4Addr, Ipv6Addr) {
    let v4 = Ipv4Addr::from_bits(V4_POOL | u32::from(index));
    (v4, Ipv6Addr::from_bits(V6_POOL | u128::from(index)))
}

fn index(address: IpAddr) -> Option<u16> {
    if !Names::is_synthetic(address) {
        return None;
    }
    match address {
        IpAddr::V4(address) => u16::try_from(address.to_bits() - V4_POOL).ok(),
        IpAddr::V6(address) => u16::try_from(address.to_bits() - V6_POOL).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: usize) -> HostName {
        format!("n{number}.example.com").parse().expect("a name")
    }

    #[test]
    fn a_name_keeps_its_pair_and_both_addresses_lead_back() {
        let names = Arc::new(Names::new());
        let (v4, v6) = names.assign(&name(1)).expect("an address");
        assert_eq!(v4, Ipv4Addr::new(198, 19, 0, 1));
        assert_eq!(v6, "fd6d:6c6b:0:1::1".parse::<Ipv6Addr>().expect("an address"));
        names.assign(&name(2)).expect("an address");
        assert_eq!(names.assign(&name(1)), Ok((v4, v6)));
        for address in [IpAddr::from(v4), IpAddr::from(v6)] {
            assert_eq!(names.lookup(address), [name(1)]);
            assert_eq!(names.hold(address).expect("held").name(), &name(1));
        }
    }

    #[test]
    fn addresses_outside_of_the_pools_have_no_name() {
        let names = Names::new();
        names.assign(&name(1)).expect("an address");
        for address in ["198.18.0.1", "198.19.0.2", "fd6d:6c6b::1", "fd6d:6c6b:0:1:0:1:0:1"] {
            assert_eq!(names.lookup(address.parse().expect("an address")), [], "{address}");
        }
    }

    #[test]
    fn the_least_recently_used_makes_room_unless_a_flow_holds_it() {
        let names = Arc::new(Names::with_capacity(3));
        let first = IpAddr::from(names.assign(&name(1)).expect("an address").0);
        let held = names.hold(first).expect("held");
        let second = names.assign(&name(2)).expect("an address").0;
        names.assign(&name(3)).expect("an address");
        names.assign(&name(4)).expect("an address");
        assert_eq!(names.lookup(first), [name(1)]);
        assert_eq!(names.lookup(second.into()), []);
        drop(held);
        for number in 5..8 {
            names.assign(&name(number)).expect("an address");
        }
        assert_eq!(names.lookup(first), []);
    }

    #[test]
    fn when_every_name_is_held_there_is_none_left() {
        let names = Arc::new(Names::with_capacity(1));
        let address = IpAddr::from(names.assign(&name(1)).expect("an address").1);
        let held = (names.hold(address), names.hold(address));
        assert_eq!(names.assign(&name(2)), Err(Exhausted));
        drop(held.0);
        assert_eq!(names.assign(&name(2)), Err(Exhausted));
        drop(held.1);
        names.assign(&name(2)).expect("an address");
    }

    #[test]
    fn an_address_rests_until_the_pool_has_gone_round() {
        let names = Names::with_capacity(2);
        let (first, _) = names.assign(&name(0)).expect("an address");
        for number in 1..usize::from(LAST) {
            assert_ne!(names.assign(&name(number)).expect("an address").0, first);
        }
        assert_eq!(names.assign(&name(usize::from(LAST))).expect("an address").0, first);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Assign(usize),
        Hold(usize),
        Release(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..12usize).prop_map(Step::Assign),
            (0..12usize).prop_map(Step::Hold),
            (0..8usize).prop_map(Step::Release),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn no_address_stands_for_two_names_and_a_held_name_stays(steps in steps()) {
            let names = Arc::new(Names::with_capacity(4));
            let mut held: Vec<(IpAddr, Held)> = Vec::new();
            let mut given: HashMap<usize, IpAddr> = HashMap::new();
            for step in steps {
                match step {
                    Step::Assign(number) => match names.assign(&name(number)) {
                        Ok((v4, _)) => {
                            given.insert(number, v4.into());
                            prop_assert_eq!(names.lookup(v4.into()), vec![name(number)]);
                        }
                        Err(Exhausted) => prop_assert!(held.len() >= 4),
                    },
                    Step::Hold(number) => {
                        if let Some(&address) = given.get(&number)
                            && let Some(guard) = names.hold(address)
                        {
                            held.push((address, guard));
                        }
                    }
                    Step::Release(number) if number < held.len() => drop(held.remove(number)),
                    Step::Release(_) => {}
                }
                for (address, guard) in &held {
                    prop_assert_eq!(names.lookup(*address), vec![guard.name().clone()]);
                }
                let table = names.table();
                prop_assert!(table.by_name.len() <= 4);
                prop_assert_eq!(table.by_name.len(), table.by_index.len());
                for (name, entry) in &table.by_name {
                    prop_assert_eq!(&table.by_index[&entry.index], name);
                    prop_assert_eq!(entry.flows == 0, table.idle.contains_key(&entry.used));
                }
            }
        }
    }
}
