//! Tests of the decoder's public interface, on packets built by hand.

mod fragments;
mod links;
mod network;
mod robustness;
mod transports;
mod tunnels;

use super::{Packet, Skip, TunnelKind};

#[test]
fn a_packet_stays_small() {
    assert!(size_of::<Packet>() <= 176, "{}", size_of::<Packet>());
}

#[test]
fn names_are_distinct_words() {
    let mut names: Vec<&str> = Skip::ALL.iter().map(|skip| skip.name()).collect();
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Skip::ALL.len());
    assert_eq!(TunnelKind::SixInFour.name(), "6in4");
}
