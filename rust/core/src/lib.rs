//! Connection tracking of packet captures: who initiated each connection.
//!
//! The whole run (captures in; rows, labels and statistics out), and re-exports of the layers below. Each layer is a crate
//! that depends only on those below, so that the compiler keeps the order.
//!
//! | crate | modules |
//! |---|---|
//! | `conntrack-base` | [`sync`], [`time`], [`checkpoint`], and a slab |
//! | `conntrack-capture` | [`capture`] (bytes to records), [`error`] |
//! | `conntrack-decode` | [`decode`] (records to packets), [`names`] (in payloads) |
//! | `conntrack-track` | [`config`], [`flow`], [`zeek`], [`proto`], [`connection`], [`direction`], [`conn`], [`table`], [`policy`], [`tracker`] |
//! | `conntrack-output` | [`rows`], [`anonymise`], [`columns`], [`ecs`], [`listing`], [`zeek_log`], [`ipfix`], [`quality`], [`labels`], [`verdicts`], [`stats`] |
//! | `conntrack-core` | [`hindsight`] (initiators from the whole capture), [`nat`] (pairs across a gateway), [`pipeline`] |
//!
//! None of the crates depends on Python or has `unsafe`.
#![forbid(unsafe_code)]

pub use conntrack_base::{checkpoint, sync, time, words};
pub use conntrack_capture::{self as capture, error};
pub use conntrack_decode::{self as decode, names};
pub use conntrack_output::*;
pub use conntrack_track::*;

pub mod hindsight;
pub mod nat;
pub mod pipeline;
