//! Who may initiate: groups of addresses, rules, and the word on a connection.
//!
//! A new connection passes if every group of the originator allows it as egress and every group of the responder allows
//! it as ingress. A group without a rule for a direction follows its default. An address belongs to the groups that name
//! the longest of all members that hold it; one in no group is outside and unrestricted.

mod bits;
mod rule;
mod services;

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::direction::Ranges;
use crate::flow::icmp::is_icmp;
use conntrack_decode::FiveTuple;

use bits::Rows;
use services::Services;

pub use rule::{Group, Peer, Rule, Way};

/// What the groups of one end say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The group that this is about: that of the rule, or the one that refuses; None: the address is in no group.
    pub group: Option<u32>,
    /// What it says.
    pub rule: Ruled,
}

/// What a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruled {
    /// Nothing was to be asked: there is no group, or its way is open.
    Free,
    /// This rule allows it.
    By(u32),
    /// No rule does.
    Refused,
}

/// What a policy says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The groups of the responder.
    pub ingress: Word,
    /// The groups of the originator.
    pub egress: Word,
}

impl Decision {
    /// Both ends allow it.
    pub fn passes(&self) -> bool {
        self.ingress.rule != Ruled::Refused && self.egress.rule != Ruled::Refused
    }
}

/// A policy, ready to be asked. Rules are numbered group by group, ingress before egress.
///
/// Addresses are in classes: those of a class are in the same groups and peers of the same rules. A rule is a bit, so that
/// three rows (the peer's class, the service, the rules of the group) say together which of many rules is the first.
pub struct Policy {
    classes: Ranges<u32>,
    /// The groups of each class.
    groups: Vec<Vec<u32>>,
    /// The rules whose peers have the addresses of each class.
    peers: Rows,
    services: Services,
    /// The numbers of each group's rules, by way.
    numbers: Vec<[(u32, u32); 2]>,
    open: Vec<[bool; 2]>,
}

impl Policy {
    /// The most rules of a policy: beyond, its tables would grow with their square.
    pub const MOST_RULES: usize = 20_000;

    /// Prepares groups and their rules.
    pub fn new(groups: &[Group]) -> Self {
        let rules: Vec<&Rule> = groups.iter().flat_map(|group| group.rules.iter().flatten()).collect();
        let mut numbers = Vec::with_capacity(groups.len());
        let mut next = 0;
        for group in groups {
            numbers.push([0, 1].map(|way: usize| {
                let first = next;
                next += group.rules[way].len() as u32;
                (first, next)
            }));
        }
        let members = members(groups);
        let (everybody, named, networks) = peers_of(&rules, groups.len());
        let mut known: HashMap<(Vec<u32>, Vec<u64>), u32> = HashMap::new();
        let (mut in_groups, mut peers) = (Vec::new(), Rows::new(rules.len()));
        let borders: Vec<_> = members.keys().chain(networks.keys()).collect();
        let classes = Ranges::of(borders.into_iter(), |addr| {
            let host = IpNet::from(addr);
            let own = members.get_lpm(&host).map_or_else(Vec::new, |(_, groups)| groups.clone());
            let of_groups = own.iter().filter_map(|group| named.get(*group as usize)).flatten();
            let of_networks = networks.cover_values(&host).flatten();
            let row = peers.row(everybody.iter().chain(of_groups).chain(of_networks).copied());
            *known.entry((own, row)).or_insert_with_key(|(own, row)| {
                in_groups.push(own.clone());
                peers.push(row)
            })
        });
        let services = Services::new(&rules);
        let open = groups.iter().map(|group| [0, 1].map(|way: usize| group.open[way] && group.rules[way].is_empty()));
        Self { classes, groups: in_groups, peers, services, numbers, open: open.collect() }
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.numbers.last().map_or(0, |[_, (_, next)]| *next as usize)
    }

    /// The groups of an address, by number.
    pub fn groups_of(&self, addr: IpAddr) -> &[u32] {
        &self.groups[self.classes.find(addr) as usize]
    }

    /// What it says of a connection. `service`: the responder's port, or the ICMP type that asks; 0 where there is neither.
    #[inline]
    pub fn decide(&self, [orig, resp]: [IpAddr; 2], proto: u8, service: u16) -> Decision {
        let (orig, resp) = (self.classes.find(orig), self.classes.find(resp));
        let services = self.services.row(proto, service);
        Decision {
            ingress: self.ask(resp, Way::Ingress, orig, services, |_, _| {}),
            egress: self.ask(orig, Way::Egress, resp, services, |_, _| {}),
        }
    }

    /// Whether a gateway would let this packet open an entry.
    #[inline]
    pub fn passes(&self, tuple: &FiveTuple) -> bool {
        let ends = [tuple.src, tuple.dst].map(|addr| addr.ip(tuple.family));
        self.decide(ends, tuple.proto, if is_icmp(tuple.proto) { tuple.sport } else { tuple.dport }).passes()
    }

    /// Every rule that a connection makes use of: one for each group that was asked.
    pub fn used(&self, [orig, resp]: [IpAddr; 2], proto: u8, service: u16, mut used: impl FnMut(u32)) {
        let (orig, resp) = (self.classes.find(orig), self.classes.find(resp));
        let services = self.services.row(proto, service);
        for (own, way, peer) in [(resp, Way::Ingress, orig), (orig, Way::Egress, resp)] {
            self.ask(own, way, peer, services, |_, rule| used(rule));
        }
    }

    /// What the groups of one end say: the first that refuses, or else the first of them. `told` hears of every rule.
    #[inline]
    fn ask(&self, own: u32, way: Way, peer: u32, services: &[u64], mut told: impl FnMut(u32, u32)) -> Word {
        let mut word = Word { group: None, rule: Ruled::Free };
        for group in &self.groups[own as usize] {
            let rule = self.rule(*group, way, peer, services);
            if let Ruled::By(rule) = rule {
                told(*group, rule);
            }
            if rule == Ruled::Refused {
                return Word { group: Some(*group), rule };
            }
            if word.group.is_none() {
                word = Word { group: Some(*group), rule };
            }
        }
        word
    }

    #[inline]
    fn rule(&self, group: u32, way: Way, peer: u32, services: &[u64]) -> Ruled {
        let (first, next) = self.numbers[group as usize][way as usize];
        if self.open[group as usize][way as usize] {
            return Ruled::Free;
        }
        bits::first_of_both(self.peers.get(peer), services, first, next).map_or(Ruled::Refused, Ruled::By)
    }
}

/// The groups that name a network.
fn members(groups: &[Group]) -> JointPrefixMap<IpNet, Vec<u32>> {
    let mut members = JointPrefixMap::<IpNet, Vec<u32>>::new();
    for (group, number) in groups.iter().zip(0..) {
        for net in &group.members {
            let named = members.entry(net.trunc()).or_default();
            if named.last() != Some(&number) {
                named.push(number);
            }
        }
    }
    members
}

/// The rules that have everybody as a peer, each group, and each network.
#[expect(clippy::type_complexity, reason = "three of a kind")]
fn peers_of(rules: &[&Rule], groups: usize) -> (Vec<usize>, Vec<Vec<usize>>, JointPrefixMap<IpNet, Vec<usize>>) {
    let (mut everybody, mut named, mut networks) = (Vec::new(), vec![Vec::new(); groups], JointPrefixMap::new());
    for (rule, number) in rules.iter().zip(0..) {
        for peer in &rule.peers {
            match peer {
                Peer::Any => everybody.push(number),
                Peer::Group(group) => named[*group].push(number),
                Peer::Network(net) => networks.entry(net.trunc()).or_insert_with(Vec::new).push(number),
            }
        }
    }
    (everybody, named, networks)
}

#[cfg(test)]
mod tests;
