//! UDP, UDP-Lite, ICMP queries, GRE and every protocol without states of its own.

use crate::config::{Rules, Timeout, UdpStream};
use conntrack_base::time::SECOND;
use conntrack_decode::ipproto;

use super::entry::Gateway;
use super::state::{CtDir, Status};

/// The least age of an entry at which an answered UDP exchange becomes a stream, nanoseconds.
const STREAM_AGE: i64 = 2 * SECOND;

/// Note an accepted packet and return the timeout from now on.
pub(super) fn step(entry: &mut Gateway, dir: CtDir, proto: u8, ts: i64, rules: &Rules) -> Timeout {
    let replied = entry.seen_reply;
    match proto {
        ipproto::UDP => {
            let age = ts.saturating_sub(entry.created);
            let (timeout, assured) = udp_step(entry.status(), dir, age, rules);
            entry.assured = assured;
            timeout
        }
        ipproto::UDPLITE if replied => assured(entry, Timeout::UdpStream),
        ipproto::UDPLITE => Timeout::Udp,
        ipproto::GRE if replied => assured(entry, Timeout::GreStream),
        ipproto::GRE => Timeout::Gre,
        ipproto::ICMP => Timeout::Icmp,
        ipproto::ICMPV6 => Timeout::Icmpv6,
        _ => Timeout::Generic,
    }
}

/// The timeout of UDP after an accepted packet, and whether the entry is a stream, permanently. `status`: a reply was
/// seen before, a stream before; `age` in nanoseconds.
#[inline]
pub fn udp_step(status: Status, dir: CtDir, age: i64, rules: &Rules) -> (Timeout, bool) {
    let Status { seen_reply, assured } = status;
    let stream = match rules.udp_stream {
        UdpStream::TwoSeconds => age > STREAM_AGE,
        UdpStream::Replied => true,
        UdpStream::SecondRequest => assured || dir == CtDir::Original,
    };
    if seen_reply && stream { (Timeout::UdpStream, true) } else { (Timeout::Udp, assured) }
}

fn assured(entry: &mut Gateway, timeout: Timeout) -> Timeout {
    entry.assured = true;
    timeout
}
