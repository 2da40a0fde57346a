//! Made traffic for benchmarks: TCP, DNS over UDP and ICMP echo, the same for the same [`Plan`].

pub mod frame;
pub mod pcap;
pub mod random;
pub mod traffic;

pub use traffic::{Packets, Plan, Shape};
