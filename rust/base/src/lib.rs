//! Base of every layer: the capture clock, checkpoint sections, values as bytes, a slab, word enums, and synchronization primitives.
#![forbid(unsafe_code)]

pub mod bytes;
pub mod checkpoint;
pub mod slab;
pub mod sync;
pub mod time;
mod words;
