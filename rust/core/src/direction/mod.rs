//! Who started it, and seen from where.

mod evidence;
pub mod locality;

pub use evidence::infer;
pub use locality::{Direction, Locality};
