//! A live connection in the table: a hot record of two cache lines, and a cold part for everything unusual.
//!
//! The rules are written once, for [`Connection`]: the slow path. Shortcuts process nearly all packets in place
//! ([`ordinary()`], [`begin`], [`closing()`]). A shortcut checks all of its conditions before its first write. Where a
//! condition does not hold, nothing was changed and the packet takes the slow path. `tests/shortcuts/` plays random
//! packets both ways and compares record, row and label after each.
//!
//! A record is in one of three forms:
//!
//! * without a cold part: the record is complete for a connection that opened in order, or for UDP, ICMP echo or other
//!   protocols without states. [`expand`] makes the whole connection of the record, once;
//! * with a cold part, and [`path::READY`]: the record is authoritative for the fields that the shortcuts change.
//!   Counters are since the last [`sync`], which brings the cold part up to date;
//! * with a cold part, and [`Flags::COLD`]: the cold part is authoritative for everything; the record has the deadline.
//!
//! # Invariants of `READY`, for TCP
//!
//! The invariants are checked where a connection leaves the slow path ([`record`]) or its handshake ([`closing`]). The
//! shortcut keeps all of them.
//!
//! 1. The gateway's state is ESTABLISHED, a reply was seen, the entry is assured. An acknowledgement leads to
//!    ESTABLISHED in both directions, the status cannot change, and the verdict deletes or reopens nothing.
//! 2. Zeek's state of both sides is established or partial, and neither sent a FIN: a plain segment changes no state.
//! 3. Zeek's `last` is the kernel's `td_end`, and Zeek's acknowledged number is the peer's `td_maxack`: one number
//!    serves both views. With [`path::OUT`] the kernel's numbers are frozen instead, and both directions are invalid.
//!    Once an acknowledgement names data that was not captured, data of either side is invalid. So `td_end` is frozen,
//!    and the peer's acknowledgements are invalid too.
//! 4. Both windows are between 1 and 2^30: no end is initialised again, and `seq == next` implies the third of the four
//!    bounds.
//! 5. Sent and acknowledged numbers wrapped equally often, and without wraps less than 2 GiB was sent: relative numbers
//!    are in order. A segment that wraps takes the slow path.
//! 6. The stream was not given up, acknowledged data is trimmed, and all sent data is delivered unless [`path::HOLE`].
//!    Data in order is delivered up to its end.
//! 7. The deadline is that of the last packet and the timeout, unless [`path::FROZEN`].
//! 8. The opening was seen, or [`path::UNSEEN`]: then acknowledgements are counted. A payload that names the
//!    originator, or a first window, takes the slow path.
//! 9. The data length of the last acknowledgement fits into sixteen bits; both ends differ; the roles are not Zeek's;
//!    no SYN+ACK waits for its SYN.
//!
//! UDP: the entry began with the connection; [`READ_UDP`](crate::connection::READ_UDP) datagrams have been examined, or
//! there is no cold part.
//!
//! [`Connection`]: crate::connection::Connection

mod closing;
mod cold;
mod flags;
mod hot;
mod letters;
mod opening;
mod ordinary;
mod whole;

use conntrack_decode::tcpflag;

pub use closing::{closing, path_of};
pub use cold::Colds;
pub use flags::Flags;
pub use hot::{Hot, Image, Limits, Shared, direction, path};
pub use letters::written;
pub use opening::{answer, begin, datagram, exchange};
pub use ordinary::ordinary;
pub use whole::{delivered, end_states, expand, record, sync};

/// Sequence numbers farther apart than this are ordered by their number of wraps.
const HALF: u32 = 1 << 31;
/// A window beyond this is larger than the largest scaled one (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// The flags that select the kind of a segment.
#[inline]
fn kind_of(flags: u8) -> u8 {
    flags & (tcpflag::SYN | tcpflag::ACK | tcpflag::RST | tcpflag::FIN | tcpflag::URG)
}
