//! What every layer of the tracker needs and none of them owns: the clock of a capture, sections of a checkpoint, a slab,
//! and the primitives that threads share.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod slab;
pub mod sync;
pub mod time;
mod words;
