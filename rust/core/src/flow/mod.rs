//! What a flow is: five-tuples, direction-free keys, and the connection built on them. No table, no threads.

pub mod community;
pub mod connection;
pub mod gateway;
pub mod history;
pub mod icmp;
pub mod key;
pub mod tuple;

pub use connection::{Connection, EndReason, Endpoint, Evidence};
pub use gateway::{CtDir, CtState, Gateway, State};
pub use key::{FlowKey, Side};
pub use tuple::{Addr, Family, FiveTuple};
