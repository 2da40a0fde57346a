//! A capture replayed through a gateway with a policy: the packets that would have passed.
//!
//! Two trackers take every packet. One tracks the connections as captured. The other is the gateway, which keeps no entry
//! for a refused connection, and so judges each later packet anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_track::config::{Bounds, Config};
use conntrack_track::policy::Policy;
use conntrack_track::proto::CtState;
use conntrack_track::tracker::{Keys, Label, Tracker};

use super::following::{TrackOutput, TrackStage};
use super::reading::{Batch, DecodeStage};
use super::{Observe, RunOutput, finish, read_on};

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
    policy: Arc<Policy>,
    want_fates: bool,
    observe: Observe<'_>,
) -> Result<ReplayOutput, CaptureError> {
    let keys = Keys::new(config);
    let bounded = config.bounds != Bounds::default();
    let mut reading = DecodeStage::new(config, keys.clone());
    let mut following = TrackStage::new(Tracker::with_keys(config, keys.clone()), bounded);
    // The gateway is Linux whatever the connections are counted by, and has no limits of its own.
    let as_gateway = Config { zeek: false, ..config.clone() };
    let mut gateway = TrackStage::new(Tracker::with_keys(&as_gateway, keys).behind(policy), bounded);
    let (mut packets, mut refused, mut fates) = ([0; 4], BTreeMap::new(), want_fates.then(Vec::new));
    let mut numbers = Vec::new();
    read_on(captures, &mut reading, observe, |batch| {
        numbers.clear();
        let number = |_: &Tracker, label: &Label, _: &Batch<'_>, _: usize| numbers.push(label.connection);
        following.take(batch, &mut { number });
        let judge = |_: &Tracker, label: &Label, _: &Batch<'_>, at: usize| {
            let (number, fate) = (numbers.get(at).copied().flatten(), Fate::of(label));
            packets[fate as usize] += 1;
            if fate == Fate::Refused
                && let Some(number) = number
            {
                *refused.entry(number).or_default() += 1;
            }
            if let Some(fates) = &mut fates {
                fates.push(fate as u8);
            }
        };
        gateway.take(batch, &mut { judge });
        gateway.drain();
    })?;
    following.finish();
    let output = TrackOutput { labels: None, ..following.output() };
    Ok(ReplayOutput { tracked: finish(captures, config, reading, output)?, packets, refused, fates })
}
