//! A capture replayed through a gateway with a policy: the packets that would have passed.
//!
//! Two trackers take every packet. One tracks the connections as captured. The other is the gateway, which keeps no entry
//! for a refused connection, and so judges each later packet anew. Fragments share the fate of their datagram.

use std::collections::BTreeMap;
use std::sync::Arc;

use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_track::config::{Bounds, Config};
use conntrack_track::flow::descriptor::kind;
use conntrack_track::policy::Policy;
use conntrack_track::proto::CtState;
use conntrack_track::tracker::{Keys, Label, Tracker};

use super::following::{TrackOutput, TrackStage};
use super::fragments::{DatagramKey, Fragments, Waiting};
use super::reading::{Batch, DecodeStage};
use super::{Observe, RunOutput, finish, read_on, with_restarts};

conntrack_base::words! {
    /// Fate of a packet at a gateway.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fate {
        /// Accepted: the packet opens an entry, or belongs to one.
        Accepted = "ACCEPTED",
        /// Refused: the packet would open an entry, and no rule allows one.
        Refused = "REFUSED",
        /// Ctstate INVALID: no entry and none may be opened, a contradiction to the entry, or unreadable headers.
        Invalid = "INVALID",
        /// Ctstate UNTRACKED, which passes: no IP, neighbour discovery.
        Untracked = "UNTRACKED",
    }
}

impl Fate {
    fn of(label: &Label) -> Self {
        match label.ctstate {
            _ if label.is_refused() => Self::Refused,
            CtState::Invalid => Self::Invalid,
            CtState::Untracked => Self::Untracked,
            CtState::New | CtState::Established | CtState::Related => Self::Accepted,
        }
    }
}

/// Results of a replay.
pub struct ReplayOutput {
    /// Connections as captured, and statistics.
    pub tracked: RunOutput,
    /// Packets by [`Fate`].
    pub packets: [u64; 4],
    /// Refused packets by connection number.
    pub refused: BTreeMap<u64, u64>,
    /// The fate of every packet as a byte, if wanted.
    pub fates: Option<Vec<u8>>,
}

/// Sends captures through a gateway with this policy. `observe` is as for [`super::track`].
pub fn replay(
    captures: &mut Captures,
    config: &Config,
    policy: &Arc<Policy>,
    want_fates: bool,
    observe: Observe<'_>,
) -> Result<ReplayOutput, CaptureError> {
    with_restarts(captures, |captures| replay_once(captures, config, policy, want_fates, &mut *observe))
}

fn replay_once(
    captures: &mut Captures,
    config: &Config,
    policy: &Arc<Policy>,
    want_fates: bool,
    observe: Observe<'_>,
) -> Result<ReplayOutput, CaptureError> {
    let keys = Keys::new(config);
    let bounded = config.bounds != Bounds::default();
    let mut reading = DecodeStage::new(config, keys.clone());
    let mut following = TrackStage::new(Tracker::with_keys(config, keys.clone()), bounded);
    // The gateway is Linux whatever the connections are counted by, and has no limits of its own.
    let as_gateway = Config { zeek: false, ..config.clone() };
    let mut gateway = TrackStage::new(Tracker::with_keys(&as_gateway, keys).behind(policy.clone()), bounded);
    let mut ledger = Ledger { fates: want_fates.then(Vec::new), ..Ledger::default() };
    let mut numbers = Vec::new();
    read_on(captures, &mut reading, observe, |batch| {
        numbers.clear();
        let number = |_: &Tracker, label: &Label, _: &Batch<'_>, _: usize| numbers.push(label.connection);
        following.take(batch, &mut { number });
        let judge = |_: &Tracker, label: &Label, batch: &Batch<'_>, at: usize| {
            ledger.note(batch, at, numbers.get(at).copied().flatten(), Fate::of(label));
        };
        gateway.take(batch, &mut { judge });
        gateway.drain();
    })?;
    ledger.finish();
    following.finish();
    let output = TrackOutput { labels: None, ..following.output() };
    let Ledger { packets, refused, fates, .. } = ledger;
    Ok(ReplayOutput { tracked: finish(captures, config, reading, output)?, packets, refused, fates })
}

/// Fates so far, and the fragments that wait for theirs.
#[derive(Default)]
struct Ledger {
    packets: [u64; 4],
    refused: BTreeMap<u64, u64>,
    fates: Option<Vec<u8>>,
    records: u64,
    fragments: Fragments,
}

impl Ledger {
    /// Notes a record's fate; a fragment waits until its datagram is complete.
    fn note(&mut self, batch: &Batch<'_>, at: usize, connection: Option<u64>, fate: Fate) {
        let one = (self.records, connection);
        self.records += 1;
        if let Some(fates) = &mut self.fates {
            fates.push(fate as u8);
        }
        let is_other = batch.decoded.descriptors[at].is(kind::OTHER);
        let key = if is_other { DatagramKey::of(&batch.records[at], batch.frame(at)) } else { None };
        let Some(key) = key else { return self.settle(one, fate) };
        let mut given_up = Vec::new();
        self.fragments.add(key, batch.records[at].ts, one, |late| given_up.push(late));
        for late in given_up {
            self.settle(late, Fate::Invalid);
        }
        // An incomplete datagram is not judged.
        if fate != Fate::Untracked {
            for (record, own) in self.fragments.take(&key) {
                self.settle((record, own.or(connection)), fate);
            }
        }
    }

    fn settle(&mut self, (record, connection): Waiting, fate: Fate) {
        self.packets[fate as usize] += 1;
        if let Some(place) = self.fates.as_mut().and_then(|fates| fates.get_mut(record as usize)) {
            *place = fate as u8;
        }
        if fate == Fate::Refused
            && let Some(connection) = connection
        {
            *self.refused.entry(connection).or_default() += 1;
        }
    }

    /// Drops the fragments that still wait.
    fn finish(&mut self) {
        for one in self.fragments.finish() {
            self.settle(one, Fate::Invalid);
        }
    }
}
