//! Base of every layer: the capture clock, checkpoint sections, a slab, word enums, and synchronization primitives.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod slab;
pub mod sync;
pub mod time;
mod words;
