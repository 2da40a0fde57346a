//! Flow logs as connections: what clouds, sensors, routers and gateways record in place of packets.
//!
//! A log is read in pieces: its kind's reader makes records, and records of one direction are paired and joined
//! (`pair.rs`). The originator is named by what the log knows (`evidence.rs`), then by the rungs of hindsight that need no
//! packets. Neither the order of lines nor that of files matters.
#![forbid(unsafe_code)]

mod account;
mod binary;
mod evidence;
mod fields;
mod guess;
mod json;
mod kind;
mod pair;
mod record;
mod run;
mod sink;
mod text;

pub use account::{Account, Problem};
pub use guess::Options;
pub use kind::Kind;
pub use run::{FlowError, Output, Progress, read};
