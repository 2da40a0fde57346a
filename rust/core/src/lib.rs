//! conntrack-core: who started it?
//!
//! The whole run, captures in, rows, labels and account out, and with it the layers it is made of, by one name.
//! Each layer is a crate, which knows only those below it: the compiler keeps the order.
//!
//! | crate | modules |
//! |---|---|
//! | `conntrack-base` | [`sync`], [`time`], [`checkpoint`], and a slab |
//! | `conntrack-capture` | [`capture`] (bytes to records), [`error`] |
//! | `conntrack-decode` | [`decode`] (records to packets), [`names`] (in payloads) |
//! | `conntrack-track` | [`config`], [`flow`], [`zeek`], [`proto`], [`connection`], [`direction`], [`conn`], [`table`], [`policy`], [`tracker`] |
//! | `conntrack-output` | [`rows`], [`columns`], [`listing`], [`zeek_log`], [`ipfix`], [`quality`], [`labels`], [`verdicts`], [`stats`] |
//! | `conntrack-core` | [`hindsight`] (who initiated, once all is known), [`pipeline`] |
//!
//! None of them knows Python or has `unsafe`.
#![forbid(unsafe_code)]

pub use conntrack_base::{checkpoint, sync, time, words};
pub use conntrack_capture::{self as capture, error};
pub use conntrack_decode::{self as decode, names};
pub use conntrack_output::*;
pub use conntrack_track::*;

pub mod hindsight;
pub mod pipeline;
