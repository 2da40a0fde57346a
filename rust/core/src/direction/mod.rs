//! Who started it, and seen from where.

mod evidence;
mod ftp;
pub mod locality;
mod payload;
pub mod window;
mod zeek;

pub use evidence::{Certainty, infer};
pub use ftp::Announcements;
pub use locality::{Direction, Locality};
pub use zeek::{begin_as_zeek, follow_zeek, read_as_zeek};
