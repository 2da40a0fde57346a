//! The values of `conn_state`.
//!
//! Source: `conn_state` in Zeek's `base/protocols/conn/main.zeek`, in its order of evaluation.

use serde::{Deserialize, Serialize};

use super::endpoint::State;

/// Zeek's summary of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the words are Zeek's; ConnState::NAMES spells them")]
pub enum ConnState {
    S0,
    S1,
    Sf,
    Rej,
    S2,
    S3,
    Rsto,
    Rstr,
    Rstos0,
    Rstrh,
    Sh,
    Shr,
    Oth,
}

impl ConnState {
    /// The names in the order of the numbers.
    pub const NAMES: [&'static str; 13] =
        ["S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"];

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        use ConnState::{Oth, Rej, Rsto, Rstos0, Rstr, Rstrh, S0, S1, S2, S3, Sf, Sh, Shr};
        const ALL: [ConnState; 13] = [S0, S1, Sf, Rej, S2, S3, Rsto, Rstr, Rstos0, Rstrh, Sh, Shr, Oth];
        ALL.into_iter().zip(Self::NAMES).find(|(_, known)| *known == name).map(|(state, _)| state)
    }

    /// The value for UDP, by activity of each end.
    pub fn of_activity(orig: bool, resp: bool) -> Self {
        match (orig, resp) {
            (true, true) => Self::Sf,
            (true, false) => Self::S0,
            (false, true) => Self::Shr,
            (false, false) => Self::Oth,
        }
    }

    /// The value for TCP, by the states of originator and responder, whether neither sent data, and the history.
    pub fn of_tcp(orig: State, resp: State, no_data: impl FnOnce() -> bool, history: impl Iterator<Item = u8>) -> Self {
        use State::{Closed, Established, Inactive, Reset, SynAckSent, SynSent};
        match (orig, resp) {
            (SynSent | SynAckSent, Reset) => Self::Rej,
            (Reset, Reset) if no_data() => Self::Rej,
            (orig, Reset) if orig.is_unopened() => Self::Rstrh,
            (_, Reset) => Self::Rstr,
            (Reset, resp) if resp.is_unopened() && is_syn_then_reset(history) => Self::Rstos0,
            (Reset, resp) if resp.is_unopened() => Self::Oth,
            (Reset, _) => Self::Rsto,
            (Closed, Closed) => Self::Sf,
            (Closed, resp) if resp.is_unopened() => Self::Sh,
            (Closed, _) => Self::S2,
            (orig, Closed) if orig.is_unopened() => Self::Shr,
            (_, Closed) => Self::S3,
            (SynSent, Inactive) => Self::S0,
            (Established, Established) => Self::S1,
            _ => Self::Oth,
        }
    }
}

/// Zeek's `^?S[^HAFGIQ]*R.*`, where the `^` is the letter.
fn is_syn_then_reset(history: impl Iterator<Item = u8>) -> bool {
    let mut letters = history.skip_while(|letter| *letter == b'^');
    letters.next() == Some(b'S') && letters.find(|letter| b"HAFGIQR".contains(letter)) == Some(b'R')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_and_then_a_reset() {
        let is = |text: &str| is_syn_then_reset(text.bytes());
        assert!(is("SR") && is("^SR") && is("STcR") && is("SRA"));
        assert!(!is("SAR") && !is("R") && !is("S") && !is("ShR".to_uppercase().as_str()));
    }

    #[test]
    fn words_of_udp() {
        let words = [(true, true), (true, false), (false, true), (false, false)];
        let words = words.map(|(orig, resp)| ConnState::NAMES[ConnState::of_activity(orig, resp) as usize]);
        assert_eq!(words, ["SF", "S0", "SHR", "OTH"]);
    }
}
