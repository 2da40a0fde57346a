//! Connections on both sides of a gateway that translates addresses: which of them are one.
//!
//! A gateway changes addresses, ports and ICMP identifiers. Sequence numbers, timestamps, payloads, DNS ids and IPv4
//! identifications usually survive, so packets of one connection give equal [tokens](features) on both sides. Time bounds
//! the candidates and is no evidence: two clocks need not agree, so their difference is [estimated](clock) from pairs that
//! need no time. A [pair](pair) is the best match of both its ends, with more bits of evidence than chance explains. What
//! fits more than one connection is counted and stays alone.

mod clock;
mod features;
mod hairpin;
mod join;
mod memory;
mod pair;
mod score;
#[cfg(test)]
mod tests;
mod view;

pub use clock::Clock;
pub use features::{Features, Seen, Sketch};
pub use memory::{Memory, Recalled};
pub use pair::{Account, Correlated, Pair, Side, correlate};

pub use view::{Remembered, recall, reveal, translate};

pub use conntrack_output::rows::told::NatEvidence as Proof;
