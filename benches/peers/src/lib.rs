//! Traffic for benchmarks, the same for the same plan: mixed traffic, imperfect TCP, and interleaved real captures.

pub mod frame;
pub mod imperfect;
pub mod mix;
pub mod pcap;
pub mod random;
pub mod readdress;
pub mod recorded;
pub mod traffic;

pub use traffic::{Packets, Plan, Shape};
