//! Bits of evidence that two connections are one.
//!
//! A bit is a factor of two by which chance fails to explain what agrees. Values of one packet are not counted twice. What
//! only one connection of each side has is worth more than what many have, and a repeated text is worth nothing.

use std::ops::Range;

use super::Proof;
use super::features::Features;
use super::join::Entry;

/// Least bits of a content that one connection of each side has.
const UNIQUE_BITS: u8 = 24;
/// More bits of a DNS question that one connection of each side has.
const UNIQUE_QUESTION: u8 = 8;
/// Most bits of contents, and of IPv4 identifications.
const MOST_BITS: u16 = 48;
/// Bits of an equal responder.
const RESPONDER_BITS: u16 = 6;

/// A token that two connections share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// Row inside.
    pub inside: u32,
    /// Row outside.
    pub outside: u32,
    /// Role of the sender inside, and outside.
    pub ends: [u8; 2],
    /// The meaning of the token.
    pub proof: Proof,
    /// Bits of evidence.
    pub bits: u8,
}

impl Match {
    /// The match of two entries with one token. `unique`: no other connection of either side has it.
    pub fn of(own: &Entry, other: &Entry, unique: bool) -> Self {
        let proof = own.token.proof;
        let bits = own.token.bits.min(other.token.bits);
        let bits = match (proof, unique) {
            (Proof::Dns, true) => bits + UNIQUE_QUESTION,
            (Proof::Payload | Proof::IcmpSeq, true) => bits.max(UNIQUE_BITS),
            (Proof::Payload | Proof::IcmpSeq | Proof::IpId, false) => bits / 2,
            _ => bits,
        };
        Self { inside: own.row, outside: other.row, ends: [own.end, other.end], proof, bits }
    }
}

/// Test for evidence that needs no time: values that are random in 32 bits.
pub fn is_strong(proof: Proof) -> bool {
    matches!(proof, Proof::Isn | Proof::Seq | Proof::Tsval)
}

/// A pair of connections that share tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Row inside.
    pub inside: u32,
    /// Row outside.
    pub outside: u32,
    /// Bits of evidence.
    pub bits: u16,
    /// The strongest evidence.
    pub proof: Proof,
    /// True where the originator inside is the responder outside.
    pub crossed: bool,
}

/// The candidate of all matches of two connections; None where their initial sequence numbers differ. `responder`: test for
/// equal responders, of connections that are crossed or not.
pub fn candidate(
    matches: &[Match],
    (own, other): (&Features, &Features),
    responder: impl Fn(bool) -> bool,
) -> Option<Candidate> {
    let first = matches.first()?;
    let score = |crossed: bool| {
        let cross = usize::from(crossed);
        let contradicts = (0..2).any(|end| own.isn(end).zip(other.isn(end ^ cross)).is_some_and(|(a, b)| a != b));
        let agreeing = || matches.iter().filter(move |one| (one.ends[0] != one.ends[1]) == crossed);
        if contradicts || agreeing().next().is_none() {
            return None;
        }
        let bits = bits_of(agreeing) + if responder(crossed) { RESPONDER_BITS } else { 0 };
        let proof = agreeing().filter(|one| one.bits > 0).map(|one| one.proof).max().unwrap_or_default();
        Some(Candidate { inside: first.inside, outside: first.outside, bits, proof, crossed })
    };
    let (straight, crossed) = (score(false), score(true));
    match (straight, crossed) {
        (Some(straight), Some(crossed)) if crossed.bits > straight.bits => Some(crossed),
        (None, crossed) => crossed,
        (straight, _) => straight,
    }
}

/// Bits of matches that agree about the roles.
fn bits_of<'a, I: Iterator<Item = &'a Match>>(matches: impl Fn() -> I) -> u16 {
    let of = |proofs: Range<Proof>, end: u8| {
        matches().filter(move |one| proofs.contains(&one.proof) && one.ends[0] == end).map(|one| u16::from(one.bits))
    };
    let most = |proofs: Range<Proof>| (0..2).map(move |end| of(proofs.clone(), end).max().unwrap_or(0));
    let sum = |proofs: Range<Proof>| (0..2).map(move |end| of(proofs.clone(), end).sum::<u16>());
    // A segment has both numbers; further segments of one connection say the same.
    let numbers = most(Proof::Isn..Proof::Gateway).sum::<u16>().max(most(Proof::Seq..Proof::Isn).max().unwrap_or(0));
    let timestamps = most(Proof::Tsval..Proof::Seq).sum::<u16>();
    // A reply repeats what the question said.
    let contents = sum(Proof::IcmpSeq..Proof::Tsval).max().unwrap_or(0).min(MOST_BITS);
    let ids = sum(Proof::IpId..Proof::IcmpSeq).sum::<u16>().min(MOST_BITS);
    numbers + timestamps + contents + ids
}
