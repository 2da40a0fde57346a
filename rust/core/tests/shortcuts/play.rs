//! Packets played both ways, and compared after each.

use std::io::Cursor;
use std::sync::Arc;

use conntrack_core::checkpoint::{Reader, Writer};
use conntrack_core::config::{Bounds, Config, Rules, Timeouts, UdpStream, VlanMode};
use conntrack_core::connection::Connection;
use conntrack_core::decode::{Family, TunnelMode, ipproto};
use conntrack_core::policy::{Combine, Group, Peer, Policy, Rule};
use conntrack_core::table;
use conntrack_core::time::SECOND;
use conntrack_core::tracker::{Closed, Evictions, Tracker};
use proptest::prelude::*;

use super::ends::{Ends, Sent};
use super::facts;
use super::moves::Move;

/// When a run begins.
pub const BEGIN: i64 = 1_700_000_000 * SECOND;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub moves: Vec<Move>,
    pub family: Family,
    /// The numbers that client and server begin with.
    pub start: [u32; 2],
    /// The tags of client and server.
    pub vlan: [u16; 2],
    /// The number of a policy; 0: none.
    pub policy: u8,
    /// The number of a configuration, below [`CONFIGS`].
    pub config: u8,
    /// Behind how many moves a reader is handed out.
    pub reads: Option<u8>,
    /// Behind how many moves the tracker is saved, and another one goes on.
    pub saved: Option<u8>,
}

impl Plan {
    /// A plan of moves with default circumstances.
    pub fn of(moves: Vec<Move>) -> Self {
        Self {
            moves,
            family: Family::V4,
            start: [1_000; 2],
            vlan: [0; 2],
            policy: 0,
            config: 0,
            reads: None,
            saved: None,
        }
    }

    /// Captured packets of each move.
    pub fn captured(&self) -> Vec<Vec<Sent>> {
        let mut ends = Ends::new(self.family, self.vlan, self.start, BEGIN);
        self.moves.iter().map(|one| ends.send(one)).collect()
    }
}

/// Number of configurations.
pub const CONFIGS: u8 = 18;

fn timeouts(all: impl Fn(&str, i64) -> i64) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for (_, name, seconds) in Timeouts::TABLE {
        timeouts.set(name, all(name, seconds) * SECOND);
    }
    timeouts
}

/// A configuration.
pub fn config(number: u8) -> Config {
    let plain = Rules::default();
    let is = |name: &str, end: &str| name.ends_with(end);
    let rules = match number {
        1 | 2 => Rules { liberal: true, ..plain },
        3 => Rules { loose: false, ..plain },
        4 => Rules { timeouts: timeouts(|_, _| 1), ..plain },
        5 => Rules { timeouts: timeouts(|_, _| 0), ..plain },
        6 => Rules { max_retrans: 0, ..plain },
        7 => Rules { timeouts: timeouts(|name, seconds| if is(name, "established") { 1 } else { seconds }), ..plain },
        8 => {
            let short = |name: &str| is(name, "unacknowledged") || is(name, "max_retrans");
            Rules { timeouts: timeouts(|name, seconds| if short(name) { 2 } else { seconds }), max_retrans: 1, ..plain }
        }
        9 => Rules { ignore_invalid_rst: true, udp_stream: UdpStream::Replied, ..plain },
        10 => Rules { udp_stream: UdpStream::SecondRequest, ..plain },
        11 => Rules { liberal: true, loose: false, max_retrans: 0, ..plain },
        12 => Rules { timeouts: timeouts(|name, _| i64::from(is(name, "udp") || is(name, "syn_sent"))), ..plain },
        _ => plain,
    };
    let mut config = Config { rules, ..Config::default() };
    if matches!(number, 2 | 13) {
        config.decode.tunnels = TunnelMode::Outer;
    }
    if number == 17 {
        config.reorder_window = 0;
    }
    config.vlan = match number {
        15 => VlanMode::Strict,
        16 => VlanMode::Ignore,
        _ => VlanMode::Key,
    };
    if number == 14 {
        config.bounds = Bounds { connections: 2, ..Bounds::default() };
    }
    config
}

/// A policy that allows only the client to initiate, or no end; None for 0.
fn policy(number: u8) -> Option<Arc<Policy>> {
    let client = Rule { peers: vec![Peer::Any], services: vec![(53, 53)], ..Rule::default() };
    let rules = match number {
        0 => return None,
        1 => [
            vec![Rule { proto: Some(ipproto::TCP), ..client.clone() }, Rule { proto: Some(ipproto::UDP), ..client }],
            vec![],
        ],
        _ => [vec![], vec![]],
    };
    let members = ["10.0.0.2/32", "202:202:202:202:202:202:202:202/128"].map(|net| net.parse().expect("a network"));
    Some(Arc::new(Policy::new(&[Group { members: members.into(), rules, open: [false; 2] }], Combine::All)))
}

/// A tracker for a plan.
pub fn tracker(plan: &Plan, config: &Config) -> Tracker {
    let tracker = Tracker::new(config);
    match policy(plan.policy) {
        Some(policy) => tracker.behind(policy),
        None => tracker,
    }
}

fn in_order(live: impl Iterator<Item = Connection>) -> Vec<Connection> {
    let mut live: Vec<_> = live.collect();
    live.sort_by_key(|connection| connection.id);
    live
}

/// A closed connection, and its other fields as text.
fn over(closed: &Closed) -> (Connection, String) {
    let Closed { places, reason, stopped, gone, .. } = closed;
    (closed.connection().into_owned(), format!("{places:x} {reason:?} {stopped:?} {gone:?}"))
}

/// A tracker resumed from the checkpoint of another.
fn gone_on(saved: &Tracker, plan: &Plan, config: &Config) -> Tracker {
    let mut out = Writer::new(Vec::new()).expect("memory");
    saved.save(&mut out).expect("memory");
    let bytes = out.finish().expect("memory");
    let mut next = tracker(plan, config);
    next.load(&mut Reader::new(Cursor::new(bytes)).expect("a checkpoint")).expect("a sound one");
    next
}

/// The tracker with the fast path, and its reader.
struct Quick {
    tracker: Tracker,
    reader: Option<table::Reader>,
}

/// Plays a plan both ways.
pub fn agree(plan: &Plan) -> Result<(), TestCaseError> {
    let config = config(plan.config);
    let mut quick = Quick { tracker: tracker(plan, &config), reader: None };
    let mut plain = tracker(plan, &config).without_shortcuts();
    let (mut by_quick, mut by_plain) = (Vec::new(), Vec::new());
    // Counts of a resumed tracker begin with zeros.
    let (mut evicted, mut refused) = (Evictions::default(), 0);
    for (number, captured) in plan.captured().into_iter().enumerate() {
        if plan.saved.is_some_and(|at| usize::from(at) == number) {
            evicted.add(quick.tracker.evicted());
            refused += quick.tracker.refused();
            quick = Quick { tracker: gone_on(&quick.tracker, plan, &config), reader: None };
        }
        if plan.reads.is_some_and(|at| usize::from(at) <= number) && quick.reader.is_none() {
            quick.reader = Some(quick.tracker.reader());
        }
        for one in captured {
            step(&mut quick, &mut plain, &one, (&mut by_quick, &mut by_plain))?;
        }
    }
    evicted.add(quick.tracker.evicted());
    refused += quick.tracker.refused();
    let counts = (quick.tracker.begun(), evicted, refused, quick.tracker.now());
    prop_assert_eq!(counts, (plain.begun(), plain.evicted(), plain.refused(), plain.now()));
    quick.tracker.finish(|gone| by_quick.push(gone.clone()));
    plain.finish(|gone| by_plain.push(gone.clone()));
    let by_id = |closed: &Closed| closed.connection().id;
    by_quick.sort_by_key(by_id);
    by_plain.sort_by_key(by_id);
    let [quick, plain] = [&by_quick, &by_plain].map(|closed| facts::of_closed(&config, closed));
    prop_assert!(quick == plain, "rows: {}", facts::differences(&quick, &plain));
    let [quick, plain] = [&by_quick, &by_plain].map(|closed| closed.iter().map(over).collect::<Vec<_>>());
    prop_assert!(quick == plain, "at the end: {}", facts::differences(&quick, &plain));
    Ok(())
}

/// Plays a packet both ways.
fn step(
    quick: &mut Quick,
    plain: &mut Tracker,
    one: &Sent,
    (by_quick, by_plain): (&mut Vec<Closed>, &mut Vec<Closed>),
) -> Result<(), TestCaseError> {
    let (tracker, ts) = (&mut quick.tracker, one.ts);
    let packets = [one.packet];
    tracker.advance(ts, |gone| by_quick.push(gone.clone()));
    plain.advance(ts, |gone| by_plain.push(gone.clone()));
    let quickly = tracker.record(&packets, &one.bytes, ts, |gone| by_quick.push(gone.clone()));
    let plainly = plain.record(&packets, &one.bytes, ts, |gone| by_plain.push(gone.clone()));
    prop_assert_eq!(quickly, plainly, "{:?}", one);
    prop_assert_eq!(by_quick.len(), by_plain.len(), "{:?}", one);
    let live = in_order(tracker.snapshot());
    let slow = in_order(plain.snapshot());
    prop_assert!(live == slow, "{:?}: {}", one, facts::differences(&live, &slow));
    let known = |tracker: &Tracker| tracker.known(&tracker.keys().of(&one.packet));
    prop_assert_eq!(known(tracker), known(plain), "{:?}", one);
    if let Some(reader) = &quick.reader {
        let seen = in_order(reader.snapshot());
        prop_assert!(seen == live, "seen after {:?}: {}", one, facts::differences(&seen, &live));
    }
    Ok(())
}
