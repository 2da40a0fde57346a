//! A capture sent through a gateway that has a policy: what it would have let pass.
//!
//! Two trackers take every packet. One follows the connections as they were; the other is the gateway, which holds no
//! entry for what it refused, so that each later packet of it is judged anew, as a gateway would.

use std::collections::BTreeMap;
use std::sync::Arc;

use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_track::config::{Bounds, Config};
use conntrack_track::policy::Policy;
use conntrack_track::proto::CtState;
use conntrack_track::tracker::{Keys, Label, Tracker};

use super::following::{Followed, Following};
use super::reading::{Batch, Reading};
use super::{Observe, Tracked, finish, read_on};

conntrack_base::words! {
    /// What a gateway does with a packet.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fate {
        /// It opens an entry, or belongs to one.
        Accepted = "ACCEPTED",
        /// It would open one, and no rule allows it.
        Refused = "REFUSED",
        /// It belongs to no entry and may not open one, or contradicts its entry; or its headers cannot be read.
        Invalid = "INVALID",
        /// It is not tracked, and passes: no IP, neighbour discovery.
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

/// What came of a replay.
pub struct Replayed {
    /// The connections as they were, and the account.
    pub tracked: Tracked,
    /// How many packets had each [`Fate`].
    pub packets: [u64; 4],
    /// Packets that were refused, by the number of their connection.
    pub refused: BTreeMap<u64, u64>,
    /// The fate of every packet, if that was asked for, as bytes.
    pub fates: Option<Vec<u8>>,
}

/// Sends captures through a gateway with this policy. `observe` is as for [`super::track`].
pub fn replay(
    captures: &mut Captures,
    config: &Config,
    policy: Arc<Policy>,
    want_fates: bool,
    observe: Observe<'_>,
) -> Result<Replayed, CaptureError> {
    let keys = Keys::new(config);
    let bounded = config.bounds != Bounds::default();
    let mut reading = Reading::new(config, keys.clone());
    let mut following = Following::new(Tracker::with_keys(config, keys.clone()), bounded);
    // The gateway is Linux whatever the connections are counted by, and has no limits of its own.
    let as_gateway = Config { zeek: false, ..config.clone() };
    let mut gateway = Following::new(Tracker::with_keys(&as_gateway, keys).behind(policy), bounded);
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
    let followed = Followed { labels: None, ..following.followed() };
    Ok(Replayed { tracked: finish(captures, config, reading, followed)?, packets, refused, fates })
}
