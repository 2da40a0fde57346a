//! What a flow is: five-tuples and their direction-free keys. No table, no threads.

pub mod tuple;

pub use tuple::{Addr, Family, FiveTuple};
