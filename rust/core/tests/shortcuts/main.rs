//! The fast path against the slow path. For any packets, both give equal labels, equal tables after every packet, and equal
//! rows.
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
