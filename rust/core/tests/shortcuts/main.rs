//! The shortcuts against the slow path, which is written for any packet: whatever comes, both say the same of every packet,
//! hold the same connections after it, and report the same rows.
//!
//! `PROPTEST_CASES=20000 cargo test -p conntrack-core --test shortcuts` is the long form.

mod cases;
mod ends;
mod facts;
mod frames;
mod moves;
mod play;
mod random;
mod reached;
