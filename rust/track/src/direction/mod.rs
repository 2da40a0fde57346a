//! The originator of a connection, and its direction relative to the local networks.

mod evidence;
mod expectation;
pub mod locality;
mod payload;
pub mod ranges;
pub mod window;
mod zeek;

pub use crate::evidence::Certainty;
pub use evidence::{infer, payload_originator};
pub use expectation::{Expectation, Expectations, Initiator, note as note_announcements};
pub use locality::{AddressScope, Direction, Locality};
pub use ranges::Ranges;
pub use zeek::{begin_as_zeek, follow_zeek, read_as_zeek};
