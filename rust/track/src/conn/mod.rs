//! A live connection in the table: a hot record of two cache lines, and a whole connection beside it where something unusual
//! came.
//!
//! The rules are written once, for [`Connection`]: the slow path. What nearly all packets do is also done in place
//! ([`ordinary()`], [`begin`], [`closing()`]): a shortcut asks all of its conditions before its first write, and where one does not
//! hold it changes nothing and the packet takes the slow path. `tests/shortcuts/` plays random packets both ways and compares
//! record, row and label after each.
//!
//! A record is in one of three forms:
//!
//! * without a cold part: the record says everything of a connection that opened in order, or of UDP, ICMP echo or another
//!   protocol without states; [`expand`] makes the whole connection of it, once;
//! * with a cold part, and [`path::READY`]: the record has the last word in what the shortcuts change, and counts since it was
//!   synchronised; [`sync`] brings the whole up to date;
//! * with a cold part, and [`Flags::COLD`]: the whole connection has the last word in everything; the record has the deadline.
//!
//! # Invariants of `READY`, for TCP
//!
//! The invariants are checked where a connection leaves the slow path ([`record`]) or its handshake ([`closing`]), whatever it went through
//! before. The shortcut keeps all of them.
//!
//! 1. The gateway's state is ESTABLISHED, a reply was seen, the entry is assured: an acknowledgement leads to ESTABLISHED in both
//!    directions, the status cannot change, and the verdict deletes or reopens nothing.
//! 2. Zeek's state of both sides is established or partial, nobody has sent a FIN: a plain segment changes no state.
//! 3. Zeek's `last` is the kernel's `td_end`, and what Zeek holds for acknowledged is the other side's `td_maxack`: one number
//!    serves both views. With [`path::OUT`] the kernel's stand still instead, and both directions are refused: once an
//!    acknowledgement names data that was not captured, data of either side is refused, so that `td_end` stands still, so that the
//!    other's acknowledgements are refused.
//! 4. Both windows are between 1 and 2^30: nothing is initialised anew, and `seq == next` implies the third of the four bounds.
//! 5. Numbers sent and acknowledged wrapped alike, and without wraps less than 2 GiB was sent: relative numbers are in order. A
//!    segment that wraps takes the slow path.
//! 6. The stream was not given up, what is acknowledged is trimmed, and everything sent is delivered unless [`path::HOLE`] says so:
//!    data in order is delivered up to its end.
//! 7. The deadline is that of the last packet and the timeout, unless [`path::FROZEN`].
//! 8. The opening was seen, or [`path::UNSEEN`]: then acknowledgements are counted, and a payload that names the originator, or a
//!    first window, takes the slow path.
//! 9. The length of the last acknowledgement's data fits into sixteen bits; both ends differ; the roles are not Zeek's.
//!
//! UDP: the entry began with the connection; a datagram has been read as often as it ever is, or there is no cold part.
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

/// Numbers farther apart than this are told apart by how often they wrapped.
const HALF: u32 = 1 << 31;
/// A window beyond this is larger than the largest scaled one (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// The flags of a segment that matter.
#[inline]
fn kind_of(flags: u8) -> u8 {
    flags & (tcpflag::SYN | tcpflag::ACK | tcpflag::RST | tcpflag::FIN | tcpflag::URG)
}
