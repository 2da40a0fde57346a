//! Flows: direction-free keys, packet descriptors, hashes, and the Community ID. No table, no threads.

pub mod community;
pub mod descriptor;
pub mod hash;
pub mod icmp;
pub mod key;
pub mod shard;
pub mod words;

pub use descriptor::Descriptor;
pub use hash::KeyHasher;
pub use key::{FlowKey, Side, Tags};
pub use words::{Narrow, PackedKey, Wide};
