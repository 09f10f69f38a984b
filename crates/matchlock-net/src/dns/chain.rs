//! What an answer says about a name: the aliases from it, and the addresses at their end.

use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Aliases that are followed for one name, over all answers.
pub(crate) const MAX_ALIASES: usize = 16;
/// Addresses of one family that are taken from one answer.
const MAX_ADDRESSES: usize = 64;

/// The end of a chain of aliases (RFC 1034 3.6.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chain {
    /// The name at the end.
    pub(crate) end: Name,
    /// Aliases passed on the way.
    pub(crate) aliases: usize,
    /// The addresses that the answer gives for `end`.
    pub(crate) addresses: Vec<IpAddr>,
    /// The shortest life of the records on the way, in seconds; `None` if there were none.
    pub(crate) ttl: Option<u32>,
}

/// More aliases than [`MAX_ALIASES`], or a circle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooLong;

impl Chain {
    /// Follows `name`. Records of names that are not on the way do not count.
    pub(crate) fn follow(answer: &Message, name: &Name, kind: RecordType) -> Result<Self, TooLong> {
        let mut chain = Self { end: name.clone(), aliases: 0, addresses: Vec::new(), ttl: None };
        loop {
            chain.collect(answer, kind);
            if !chain.addresses.is_empty() {
                return Ok(chain);
            }
            let alias = answer.answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == chain.end => Some((record, &target.0)),
                _ => None,
            });
            let Some((record, target)) = alias else { return Ok(chain) };
            chain.aliases += 1;
            if chain.aliases > MAX_ALIASES {
                return Err(TooLong);
            }
            chain.lives(record);
            chain.end = target.clone();
        }
    }

    fn collect(&mut self, answer: &Message, kind: RecordType) {
        for record in &answer.answers {
            if record.record_type() == kind
                && record.name == self.end
                && let Some(address) = record.data.ip_addr()
                && self.addresses.len() < MAX_ADDRESSES
            {
                self.lives(record);
                self.addresses.push(address);
            }
        }
    }

    fn lives(&mut self, record: &Record) {
        self.ttl = Some(self.ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;
    use crate::dns::wire::record;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        record(&name(owner), ttl, RData::A(A(Ipv4Addr::new(8, 8, 8, last))))
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Record {
        record(&name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    fn follow(answers: Vec<Record>) -> Result<Chain, TooLong> {
        let mut message = Message::response(1, OpCode::Query);
        message.answers = answers;
        Chain::follow(&message, &name("a.example."), RecordType::A)
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_case_and_the_shortest_life_counts() {
        let records = vec![
            a("c.example.", 50, 1),
            a("evil.example.", 1, 9),
            alias("B.example.", 20, "c.example."),
            a("C.example.", 40, 2),
            alias("a.example.", 30, "b.example."),
        ];
        let chain = follow(records).expect("a chain");
        assert_eq!((chain.aliases, chain.ttl), (2, Some(20)));
        assert_eq!(
            chain.addresses,
            ["8.8.8.1", "8.8.8.2"].map(|a| a.parse::<IpAddr>().expect("ip"))
        );
    }

    #[test]
    fn a_chain_without_addresses_says_where_it_ends() {
        let chain = follow(vec![alias("a.example.", 30, "b.example.")]).expect("a chain");
        assert_eq!((chain.end, chain.addresses), (name("b.example."), vec![]));
        assert_eq!(follow(Vec::new()).expect("a chain").ttl, None);
    }

    #[test]
    fn circles_end() {
        let circle =
            vec![alias("a.example.", 1, "b.example."), alias("b.example.", 1, "a.example.")];
        assert_eq!(follow(circle), Err(TooLong));
    }
}
