//! The base of every layer: the clock of a capture, sections of a checkpoint, a slab, lists of words, and the primitives
//! that threads share.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod slab;
pub mod sync;
pub mod time;
mod words;
