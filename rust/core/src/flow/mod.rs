//! What a flow is: direction-free keys, and what is written about flows. No table, no threads.

pub mod community;
pub mod icmp;
pub mod key;

pub use key::{FlowKey, Side};
