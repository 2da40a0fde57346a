//! Rows with the true ends of connections in place of those that a gateway shows.

use std::net::IpAddr;
use std::sync::Arc;

use conntrack_track::direction::{AddressScope, Locality};
use conntrack_track::flow::icmp::is_icmp;

use super::beside::Beside;
use super::packed::{Overflow, flag};
use super::segments::Segments;
use super::told::{Nat, NatEvidence, addr_of};
use super::{Row, Rows};

/// Address and port of the originator, and of the responder.
pub type Ends = [(IpAddr, u16); 2];

/// A change of a row.
#[derive(Clone, Copy, Debug)]
pub enum View {
    /// The translation of the row.
    Translated(Nat),
    /// The true ends, with evidence and confidence. The ends that the gateway shows become the translation.
    Real(Ends, NatEvidence, f32),
}

/// The rows in their order, changed; None: the row stays.
pub fn revealed<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    locality: Arc<Locality>,
    mut view: impl FnMut(Row<'a>) -> Option<View>,
) -> Rows {
    let (mut overflow, mut packed, mut beside) = (Overflow::default(), Segments::default(), Beside::default());
    for row in rows {
        let mut made = row.packed.copied(&row.rows.overflow, &mut overflow);
        let mut nat = row.nat().copied();
        let view = view(row);
        if let Some(View::Translated(found)) = view {
            nat = Some(found);
        }
        if let Some(View::Real(ends, evidence, confidence)) = view {
            let [(orig, family), (resp, other)] = ends.map(|(addr, _)| addr_of(addr));
            if family == other {
                let scopes = ends.map(|(addr, _)| locality.scope_of(addr, row.proto()));
                made.direction = AddressScope::direction(scopes, row.was_broadcast());
                made.put_flags([(flag::V6, false)]);
                made.put_ends(family, [orig, resp], &mut overflow);
                if !is_icmp(row.proto()) {
                    made.port = ends.map(|(_, port)| port);
                }
                let mut shown = [0, 1].map(|end| Some((row.ip(end), row.port(end))));
                if row.orig() as usize == 1 {
                    shown.swap(0, 1);
                }
                nat = Some(Nat { ends: shown, evidence, confidence });
            }
        }
        packed.push(made);
        let facts = row.facts().copied();
        if facts.is_some() || nat.is_some() {
            beside.add(row.number(), facts.unwrap_or_default(), nat);
        }
    }
    packed.close();
    Rows { packed, overflow, locality, beside: Some(Box::new(beside)) }
}
