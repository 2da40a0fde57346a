//! Transfers of TFTP, RFC 1350 section 4: the server answers a request from a new port.

use conntrack_base::time::SECOND;
use conntrack_decode::{Packet, ipproto};

use super::fact::{Announcement, Initiator};
use crate::direction::payload::is_tftp_request;

/// The port of requests.
pub(super) const SERVER: u16 = 69;
/// The lifetime of an expectation, as in `nf_conntrack_tftp`, nanoseconds.
const HOLDS: i64 = 300 * SECOND;

pub(super) fn read(packet: &Packet, payload: &[u8]) -> Option<Announcement> {
    is_tftp_request(payload).then_some(Announcement {
        proto: ipproto::UDP,
        addr: packet.tuple.src,
        port: packet.tuple.sport,
        initiator: Initiator::Named,
        by_receiver: true,
        holds: HOLDS,
    })
}
