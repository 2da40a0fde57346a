//! UDP, UDP-Lite, ICMP queries, GRE and every protocol without states of its own.

use crate::config::{Rules, Timeout, UdpStream};
use crate::decode::ipproto;
use crate::time::SECOND;

use super::entry::{CtDir, Gateway};

/// How old an entry must be before an answered UDP exchange counts as a stream.
const STREAM_AGE: i64 = 2 * SECOND;

/// Notes an accepted packet and names the timeout that runs from now on.
pub(super) fn step(entry: &mut Gateway, dir: CtDir, proto: u8, ts: i64, rules: &Rules) -> Timeout {
    let replied = entry.seen_reply;
    let stream = match rules.udp_stream {
        UdpStream::TwoSeconds => ts.saturating_sub(entry.created) > STREAM_AGE,
        UdpStream::Replied => true,
        // Once a stream, always one.
        UdpStream::SecondRequest => entry.assured || dir == CtDir::Original,
    };
    match proto {
        ipproto::UDP if replied && stream => assured(entry, Timeout::UdpStream),
        ipproto::UDPLITE if replied => assured(entry, Timeout::UdpStream),
        ipproto::UDP | ipproto::UDPLITE => Timeout::Udp,
        ipproto::GRE if replied => assured(entry, Timeout::GreStream),
        ipproto::GRE => Timeout::Gre,
        ipproto::ICMP => Timeout::Icmp,
        ipproto::ICMPV6 => Timeout::Icmpv6,
        _ => Timeout::Generic,
    }
}

fn assured(entry: &mut Gateway, timeout: Timeout) -> Timeout {
    entry.assured = true;
    timeout
}
