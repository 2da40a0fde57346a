//! Made traffic for benchmarks, the same for the same plan: mixed traffic and imperfect TCP.
pub mod frame;
pub mod imperfect;
pub mod pcap;
pub mod random;
pub mod traffic;

pub use traffic::{Packets, Plan, Shape};
