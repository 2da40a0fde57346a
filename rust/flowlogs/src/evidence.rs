//! The initiator, by what a log knows: the flags of all windows together, the word of the log, then the rungs of
//! hindsight that need no packets.
//!
//! Letters of Zeek's history stand for what flags and sizes imply, so that hindsight counts listeners and peers as it
//! does for packets. No column shows the letters. Confidence is the share of right answers on records made of captures
//! with known answers (docs/evidence.md has the table).

use std::sync::Arc;

use conntrack_core::config::{Config, ServerPorts, Timeout};
use conntrack_core::connection::{EndReason, Endpoint, Evidence};
use conntrack_core::decode::{Addr, Family, FiveTuple, Vlan, ipproto};
use conntrack_core::direction::{Expectations, Locality};
use conntrack_core::flow::{Side, icmp};
use conntrack_core::hindsight::{self, Hints};
use conntrack_core::proto::State;
use conntrack_core::rows::told::{Facts, Told, ToldRows, lack, side_of};
use conntrack_core::rows::{HistoryLetters, Row, Rows};
use conntrack_core::zeek::ConnState;

use crate::account::Account;
use crate::fields::is_icmp;
use crate::pair::{Key, Pairs, Piece, place};
use crate::record::{Says, Whole, letters, tcp};
use crate::sink::Observers;

/// Nanoseconds within which the begins of two directions are no order: many logs have whole seconds.
const RESOLUTION: i64 = 1_000_000_000;
/// Bytes of a packet above which it carries data: the headers of IPv4 and TCP with all options of a handshake.
const BARE: u64 = 60;

/// The rows of all connections in the order of their times, and whether any has a translation.
pub fn rows(
    mut pairs: Pairs,
    wholes: Vec<Whole>,
    observers: &Observers,
    config: &Config,
    account: &mut Account,
) -> (Rows, bool) {
    let mut names = Names::new(observers);
    let locality = Arc::new(Locality::new(config));
    let ports = config.likely_server_ports.clone().unwrap_or_else(ServerPorts::services);
    let mut told: Vec<Told> = Vec::new();
    let pieces = pairs.take();
    let known = Known { pairs: &pairs, locality: &locality, ports: &ports };
    for (key, piece) in pieces {
        let one = judged(&key, &piece, &known, &mut names);
        account.seen_twice += u64::from(!piece.more.is_empty());
        let told_by = piece.has_flags || piece.says != [Says::Nothing; 2];
        account.without_flags += u64::from(key.proto == ipproto::TCP && !told_by);
        account.one_way += u64::from(one.sent.iter().any(|sent| sent.packets == 0));
        account.refused += u64::from(one.facts.refused_by.is_some());
        told.push(one);
    }
    for whole in wholes {
        account.refused += u64::from(whole.refused.is_some());
        told.push(of_whole(&whole, &mut names));
    }
    let ends = |told: &Told| {
        let FiveTuple { src, dst, sport, dport, proto, .. } = told.tuple;
        (told.start, told.end, proto, src, dst, sport, dport)
    };
    told.sort_by(|one, other| {
        let counts = |told: &Told| told.sent.map(|sent| (sent.packets, sent.ip_bytes));
        ends(one).cmp(&ends(other)).then_with(|| counts(one).cmp(&counts(other)))
    });
    account.connections = told.len() as u64;
    let translated = told.iter().any(|told| told.nat.is_some());
    let mut rows = ToldRows::new(locality, names.texts);
    for one in &told {
        rows.push(one);
    }
    let mut rows = rows.finish();
    settle(&mut rows, config, &ports);
    (rows, translated)
}

/// Facts beside a connection's own records, by which the connection is judged.
struct Known<'a> {
    pairs: &'a Pairs,
    locality: &'a Locality,
    ports: &'a ServerPorts,
}

/// Decides what the log left open, and gives every row the confidence of flow logs.
fn settle(rows: &mut Rows, config: &Config, ports: &ServerPorts) {
    let udp_timeout = config.rules.timeouts.get(Timeout::Udp);
    let expected = Expectations::default();
    hindsight::settle(rows, &Hints { ports, expected: &expected, files: &[], udp_timeout });
    let found: Vec<(u64, f32)> = rows
        .iter()
        .map(|row| {
            let [own, sure] = [row.evidence(), row.sure()].map(|evidence| confidence(row, evidence, ports));
            (row.number(), own.min(sure))
        })
        .collect();
    for (number, confidence) in found {
        rows.trust(number, confidence);
    }
}

/// Confidence in a connection that another one made expected, lower than that of packets: nobody sees the announcement.
const RELATED: f32 = 0.5;
/// Confidence in the originator that a log names, of datagrams without a listed port at the responder's end alone: logs take
/// the first sender, who may be an answering one.
const DATAGRAMS: f32 = 0.89;

/// Probability that the originator of a flow log's connection is right; the table of docs/evidence.md. Where logs made of
/// captures gave more right answers than beheaded captures, the ladder's number stands.
fn confidence(row: Row<'_>, evidence: Evidence, ports: &ServerPorts) -> f32 {
    let serves = |end: usize| ports.contains(row.proto(), row.port(end));
    match evidence {
        Evidence::Related => RELATED,
        Evidence::Logged if row.proto() != ipproto::TCP && (!serves(1) || serves(0)) => DATAGRAMS,
        evidence => evidence.confidence(),
    }
}

/// Texts of sets of observers, each once.
struct Names<'a> {
    observers: &'a Observers,
    texts: Vec<String>,
    known: ahash::AHashMap<Vec<u32>, Option<u32>>,
}

impl<'a> Names<'a> {
    fn new(observers: &'a Observers) -> Self {
        Self { observers, texts: Vec::new(), known: ahash::AHashMap::new() }
    }

    /// The place of the names of these observers; None where none has a name.
    fn place(&mut self, mut observers: Vec<u32>) -> Option<u32> {
        observers.sort_unstable();
        if let Some(known) = self.known.get(&observers) {
            return *known;
        }
        let mut names: Vec<&str> = observers.iter().filter_map(|number| self.observers.name(*number)).collect();
        names.sort_unstable();
        let place = (!names.is_empty()).then(|| {
            self.texts.push(names.join(","));
            self.texts.len() as u32 - 1
        });
        self.known.insert(observers, place);
        place
    }
}

/// A connection of pieces.
fn judged(key: &Key, piece: &Piece, known: &Known<'_>, names: &mut Names<'_>) -> Told {
    let (orig, evidence) = originator(key, piece, known.ports);
    let (own, peer) = (orig, 1 - orig);
    let counts = piece.counts();
    let both = counts.iter().all(|counts| counts.packets > 0);
    let unordered = both && piece.start[0].abs_diff(piece.start[1]) < RESOLUTION as u64;
    let first = usize::from(piece.start[1] < piece.start[0]);
    let mut unknown = lack::STATE | lack::CONN_STATE | lack::HISTORY | lack::ASSURED | lack::END_REASON;
    unknown |= lack::PAYLOAD | lack::PAYLOAD << 1;
    if unordered {
        unknown |= lack::FLIPPED;
    }
    if !piece.counted {
        unknown |= lack::PACKETS * 3;
        unknown |= lack::IP_BYTES * 3;
        unknown |= lack::SEEN_REPLY;
    }
    if is_icmp(key.proto) && !key.typed {
        unknown |= lack::PORTS;
    }
    let (sport, dport) = match (is_icmp(key.proto), key.typed) {
        (true, true) => icmp_ports(key),
        (true, false) => (0, 0),
        (false, _) => (key.ports[own], key.ports[peer]),
    };
    let tuple =
        FiveTuple { src: key.addrs[own], dst: key.addrs[peer], sport, dport, proto: key.proto, family: key.family };
    let sides = [Side::A, Side::B];
    let facts = Facts {
        unknown,
        unordered,
        refused_by: refused_by(key, piece, known).or_else(|| reset_by(piece, orig)).map(|side| sides[side]),
        observed_at: names.place(piece.all().map(|seen| seen.observer).collect()),
        records: piece.records,
        sampled: piece.sampled,
        ..Facts::default()
    };
    Told {
        tuple,
        start: piece.begin(),
        end: piece.last(),
        sent: [own, peer].map(|side| endpoint(key.proto, counts[side])),
        history: implied(key.proto, piece, orig),
        conn_state: ConnState::Oth,
        state: State::None,
        assured: false,
        end_reason: EndReason::EndOfCapture,
        evidence,
        flipped: !unordered && first != orig,
        vlan: Vlan::default(),
        facts,
        nat: None,
    }
}

/// Counts with the payload that packets of this size imply, for the ladder alone.
fn endpoint(proto: u8, counts: crate::record::Counts) -> Endpoint {
    let header = if proto == ipproto::TCP { BARE } else { 28 };
    let payload_bytes = counts.bytes.saturating_sub(counts.packets.saturating_mul(header));
    Endpoint { packets: counts.packets, ip_bytes: counts.bytes, payload_bytes }
}

/// Type and code, or the types of query and answer, as a row has them.
fn icmp_ports(key: &Key) -> (u16, u16) {
    let [kind, code] = key.ports[0].to_be_bytes();
    if icmp::is_request(key.proto, kind) {
        return (kind.into(), icmp::answer_to(key.proto, kind).into());
    }
    (kind.into(), code.into())
}

/// The side of the originator, with the evidence; without any, the first sender's, or else the lower port's peer.
fn originator(key: &Key, piece: &Piece, ports: &ServerPorts) -> (usize, Evidence) {
    let [a, b] = piece.says;
    if a != b {
        let side = usize::from(b > a);
        let word = piece.says[side];
        return (side, if word == Says::Began { Evidence::FlowState } else { Evidence::Logged });
    }
    let is = |side: usize, these: u8| piece.flags[side] & (tcp::SYN | tcp::ACK) == these;
    let (opens, accepts) = ([0, 1].map(|side| is(side, tcp::SYN)), [0, 1].map(|side| is(side, tcp::SYN | tcp::ACK)));
    let is_tcp = key.proto == ipproto::TCP;
    match (opens, accepts) {
        ([true, false], _) => return (0, if is_tcp { Evidence::Syn } else { Evidence::IcmpRequest }),
        ([false, true], _) => return (1, if is_tcp { Evidence::Syn } else { Evidence::IcmpRequest }),
        ([false, false], [true, false]) if !piece.blended => {
            return (1, if is_tcp { Evidence::SynAck } else { Evidence::IcmpReply });
        }
        ([false, false], [false, true]) if !piece.blended => {
            return (0, if is_tcp { Evidence::SynAck } else { Evidence::IcmpReply });
        }
        // Flags of all packets together: both ends' have the SYN and the ACK.
        // A listed port of one end decides better than the order.
        ([false, false], [true, true])
            if piece.blended
                && piece.start[0] != piece.start[1]
                && key.ports.iter().filter(|port| ports.contains(key.proto, **port)).count() != 1 =>
        {
            return (usize::from(piece.start[1] < piece.start[0]), Evidence::SynOrder);
        }
        _ => {}
    }
    let unordered = piece.start[0].abs_diff(piece.start[1]) < RESOLUTION as u64;
    let first = if unordered { key.ports[0] < key.ports[1] } else { piece.start[1] < piece.start[0] };
    (usize::from(first), Evidence::Unknown)
}

/// Letters of Zeek that flags and sizes imply.
fn implied(proto: u8, piece: &Piece, orig: usize) -> HistoryLetters {
    let mut text = Vec::new();
    if proto == ipproto::TCP {
        let counts = piece.counts();
        for (end, side) in [orig, 1 - orig].into_iter().enumerate() {
            let mut put = |letter: u8| text.push(if end == 0 { letter } else { letter.to_ascii_lowercase() });
            let flags = piece.flags[side];
            if flags & tcp::SYN != 0 {
                put(if end == 0 { b'S' } else { b'H' });
            }
            let sent = counts[side];
            if sent.bytes > sent.packets.saturating_mul(BARE) {
                put(b'D');
            }
            if sent.packets > 1 || (sent.packets > 0 && flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0) {
                put(b'A');
            }
            if flags & tcp::FIN != 0 {
                put(b'F');
            }
            if flags & tcp::RST != 0 {
                put(b'R');
            }
        }
    }
    letters(&text)
}

/// The side at which a direction was refused of which no packet passed; None also where nobody can say.
fn refused_by(key: &Key, piece: &Piece, known: &Known<'_>) -> Option<usize> {
    let sender = (0..2).find(|sender| {
        let is_refused = piece.all().any(|seen| seen.refused[*sender] != 0);
        is_refused && !piece.all().any(|seen| seen.passed[*sender])
    })?;
    let receiver = 1 - sender;
    let places: Vec<usize> = piece
        .all()
        .filter_map(|seen| match seen.refused[sender] {
            0 => None,
            bits if bits & place::RECEIVER != 0 => Some(receiver),
            bits if bits & place::SENDER != 0 => Some(sender),
            _ => observer_side(key, known.pairs.observer_addr(seen.observer), known.locality),
        })
        .collect();
    let answered = piece.all().any(|seen| seen.passed[receiver]);
    // Most rules judge what arrives.
    let by_default = (!answered).then_some(receiver);
    if places.is_empty() { by_default } else { Some(if places.contains(&receiver) { receiver } else { sender }) }
}

/// The side of an observer: that of its address, or else the only local one.
fn observer_side(key: &Key, addr: Option<(Addr, Family)>, locality: &Locality) -> Option<usize> {
    let own = addr.and_then(|addr| key.addrs.iter().position(|known| (*known, key.family) == addr));
    let local = key.addrs.map(|addr| locality.scope(addr.ip(key.family)).is_local);
    own.or((local[0] != local[1]).then_some(usize::from(local[1])))
}

/// The responder, where its only answer to a SYN is an RST.
fn reset_by(piece: &Piece, orig: usize) -> Option<usize> {
    let resets = piece.flags[1 - orig] & (tcp::RST | tcp::SYN | tcp::FIN) == tcp::RST;
    let has_data = piece.counts().iter().any(|sent| sent.bytes > sent.packets.saturating_mul(BARE));
    (piece.flags[orig] & tcp::SYN != 0 && resets && !has_data).then_some(1 - orig)
}

/// A connection that the log records whole.
fn of_whole(whole: &Whole, names: &mut Names<'_>) -> Told {
    let side = side_of(&whole.tuple);
    let (own, peer) = (side as usize, side.other() as usize);
    let mut unknown = 0;
    let mut lacks = |is_lacking: bool, what: u16| unknown |= if is_lacking { what } else { 0 };
    lacks(whole.state.is_none(), lack::STATE);
    lacks(whole.conn_state.is_none(), lack::CONN_STATE);
    lacks(whole.history.is_none(), lack::HISTORY);
    lacks(whole.assured.is_none(), lack::ASSURED);
    lacks(whole.flipped.is_none(), lack::FLIPPED);
    lacks(whole.end_reason.is_none(), lack::END_REASON);
    lacks(whole.replied.is_none() && whole.sent.iter().any(Option::is_none), lack::SEEN_REPLY);
    for (end, side) in [own, peer].into_iter().enumerate() {
        lacks(whole.sent[end].is_none(), lack::PACKETS << side | lack::IP_BYTES << side);
        lacks(whole.payload[end].is_none(), lack::PAYLOAD << side);
    }
    let sent = [0, 1].map(|end| {
        let counts = whole.sent[end].unwrap_or_default();
        let sent = endpoint(whole.tuple.proto, counts);
        Endpoint { payload_bytes: whole.payload[end].unwrap_or(sent.payload_bytes), ..sent }
    });
    let facts = Facts {
        unknown,
        unordered: whole.flipped.is_none(),
        refused_by: whole.refused.map(|end| if end == 0 { side } else { side.other() }),
        observed_at: names.place(vec![whole.observer]),
        records: whole.records,
        replied: whole.replied,
        ..Facts::default()
    };
    Told {
        tuple: whole.tuple,
        start: whole.start,
        end: whole.end,
        sent,
        history: whole.history.unwrap_or(whole.letters),
        conn_state: whole.conn_state.unwrap_or(ConnState::Oth),
        state: whole.state.unwrap_or_default(),
        assured: whole.assured.unwrap_or(false),
        end_reason: whole.end_reason.unwrap_or(EndReason::EndOfCapture),
        evidence: whole.evidence,
        flipped: whole.flipped.unwrap_or(false),
        vlan: whole.vlan,
        facts,
        nat: whole.nat,
    }
}
