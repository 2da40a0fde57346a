//! Who started it, and seen from where.

mod evidence;
pub mod locality;
mod zeek;

pub use evidence::infer;
pub use locality::{Direction, Locality};
pub use zeek::{begin_as_zeek, follow_zeek, read_as_zeek};
