//! The index against a scan of the rules, one after another.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Combine, Decision, EndDecision, Group, Peer, Policy, Rule, Ruling, Way};

/// The model's decision, rule by rule.
fn scan(groups: &[Group], combine: Combine, [orig, resp]: [IpAddr; 2], proto: u8, service: u16) -> Decision {
    let of = |addr: IpAddr| -> Vec<usize> {
        let held = groups.iter().flat_map(|group| &group.members).filter(|net| net.contains(&addr));
        let Some(longest) = held.max_by_key(|net| net.prefix_len()) else { return Vec::new() };
        (0..groups.len())
            .filter(|group| groups[*group].members.iter().any(|net| net.trunc() == longest.trunc()))
            .collect()
    };
    let ask = |own: IpAddr, way: Way, peer: IpAddr| {
        let mut words = Vec::new();
        for group in of(own) {
            let before: usize = groups[..group].iter().map(|group| group.rules[0].len() + group.rules[1].len()).sum();
            let before = before + if way == Way::Egress { groups[group].rules[0].len() } else { 0 };
            let rules = &groups[group].rules[way as usize];
            let matches = |rule: &Rule| {
                let peers = rule.peers.iter().any(|one| match one {
                    Peer::Any => true,
                    Peer::Group(group) => of(peer).contains(group),
                    Peer::Network(net) => net.contains(&peer),
                });
                let services = &rule.services;
                peers
                    && rule.proto.is_none_or(|one| one == proto)
                    && (services.is_empty() || services.iter().any(|(a, b)| (a..=b).contains(&&service)))
            };
            let rule = match rules.iter().position(matches) {
                Some(place) => Ruling::By((before + place) as u32),
                None if rules.is_empty() && groups[group].open[way as usize] => Ruling::Free,
                None => Ruling::Refused,
            };
            words.push(EndDecision { group: Some(group as u32), rule });
        }
        let first = |wanted: fn(Ruling) -> bool| words.iter().find(|word| wanted(word.rule)).copied();
        let refused = first(|rule| rule == Ruling::Refused);
        let decides = match combine {
            Combine::All => refused,
            Combine::Any => first(|rule| matches!(rule, Ruling::By(_))).or(refused),
        };
        decides.or_else(|| first(|_| true)).unwrap_or(EndDecision { group: None, rule: Ruling::Free })
    };
    Decision { ingress: ask(resp, Way::Ingress, orig), egress: ask(orig, Way::Egress, resp) }
}

/// Few addresses and prefix lengths, so that networks overlap.
fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (0..4u8, 0..4u8, prop::sample::select(vec![0, 8, 24, 30, 31, 32]))
        .prop_map(|(c, d, length)| IpNet::new(IpAddr::from([10, 0, c, d]), length).unwrap());
    let v6 = (0..4u16, prop::sample::select(vec![0, 64, 126, 127, 128]))
        .prop_map(|(h, length)| IpNet::new(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, h]), length).unwrap());
    prop_oneof![4 => v4, 1 => v6]
}

fn rule() -> impl Strategy<Value = Rule> {
    let peer = prop_oneof![Just(Peer::Any), (0..3usize).prop_map(Peer::Group), network().prop_map(Peer::Network)];
    let service = prop_oneof![(0..6u16).prop_map(|port| (port, port)), Just((2, 4)), Just((5, u16::MAX)), Just((0, 1))];
    let proto = prop::sample::select(vec![None, Some(6), Some(17), Some(1)]);
    (prop::collection::vec(peer, 1..3), proto, prop::collection::vec(service, 0..3))
        .prop_map(|(peers, proto, services)| Rule { peers, proto, services })
}

fn group() -> impl Strategy<Value = Group> {
    let rules = || prop::collection::vec(rule(), 0..4);
    (prop::collection::vec(network(), 0..4), [rules(), rules()], any::<[bool; 2]>())
        .prop_map(|(members, rules, open)| Group { members, rules, open })
}

proptest! {
    #[test]
    fn the_index_says_what_a_scan_says(
        groups in prop::collection::vec(group(), 3),
        asked in prop::collection::vec((network(), network(), prop::sample::select(vec![6, 17, 1, 47]), 0..8u16), 40),
    ) {
        for combine in [Combine::All, Combine::Any] {
            let policy = Policy::new(&groups, combine);
            for (orig, resp, proto, service) in &asked {
                let ends = [orig.addr(), resp.addr()];
                let scanned = scan(&groups, combine, ends, *proto, *service);
                prop_assert_eq!(policy.decide(ends, *proto, *service), scanned);
            }
        }
    }
}

#[test]
fn a_policy_without_groups_lets_everything_pass() {
    let decision = Policy::new(&[], Combine::All).decide([[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from), 6, 443);
    assert!(decision.passes());
    assert_eq!(decision.egress, EndDecision { group: None, rule: Ruling::Free });
}

#[test]
fn a_group_without_rules_refuses_and_an_open_one_does_not() {
    for open in [false, true] {
        let group = Group { members: vec!["10.0.0.0/8".parse().unwrap()], open: [open; 2], ..Group::default() };
        let policy = Policy::new(&[group], Combine::All);
        let decide = |orig: [u8; 4], resp: [u8; 4]| policy.decide([orig, resp].map(IpAddr::from), 6, 443);
        assert_eq!(decide([192, 0, 2, 1], [10, 0, 0, 1]).passes(), open);
        assert_eq!(decide([10, 0, 0, 1], [192, 0, 2, 1]).passes(), open);
        assert!(decide([192, 0, 2, 1], [192, 0, 2, 2]).passes());
    }
}

#[test]
fn many_rules_are_found_by_their_place() {
    let net = |last: u16| Peer::Network(IpNet::new(IpAddr::from([192, 0, (last >> 8) as u8, last as u8]), 32).unwrap());
    let rule = |last: u16| Rule { peers: vec![net(last)], proto: Some(6), services: vec![(last, last)] };
    let servers = Group {
        members: vec!["10.0.0.0/8".parse().unwrap()],
        rules: [(0..1000).map(rule).collect(), Vec::new()],
        open: [false; 2],
    };
    let policy = Policy::new(&[servers], Combine::All);
    assert_eq!(policy.rules(), 1000);
    for last in [0, 1, 63, 64, 65, 500, 999] {
        let ends = [[192, 0, (last >> 8) as u8, last as u8], [10, 0, 0, 1]].map(IpAddr::from);
        assert_eq!(policy.decide(ends, 6, last).ingress.rule, Ruling::By(last.into()));
        assert_eq!(policy.decide(ends, 6, last + 1).ingress.rule, Ruling::Refused);
    }
}
