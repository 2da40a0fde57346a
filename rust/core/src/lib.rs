//! conntrack-core: who started it?
//!
//! A capture goes through the modules in the order of this list, and a module knows only those above it:
//!
//! [`sync`] (what threads share), [`time`], [`error`], [`checkpoint`] (state in a file) → [`capture`] (bytes → record) → [`decode`] (record → packet) → [`names`] (in payloads) → [`config`] → [`flow`] (flow key, packet descriptor)
//! → [`zeek`] (its view) → [`proto`] (state machine) → [`connection`] → [`slab`] (slots) → [`direction`] (who initiated, and seen from where) → [`conn`] (hot record, cold part, shortcuts) → [`table`] → [`policy`] (who may) →
//! [`tracker`] (one packet) → [`rows`] (finished connections) → [`columns`], [`hindsight`] (who initiated, once all is known), [`listing`], [`zeek_log`], [`ipfix`], [`quality`], [`labels`], [`verdicts`], [`stats`] → [`pipeline`] (the whole run).
//!
//! The crate knows no Python and has no `unsafe`.
#![forbid(unsafe_code)]

pub mod capture;
pub mod checkpoint;
pub mod columns;
pub mod config;
pub mod conn;
pub mod connection;
pub mod decode;
pub mod direction;
pub mod error;
pub mod flow;
pub mod hindsight;
pub mod ipfix;
pub mod labels;
pub mod listing;
pub mod names;
pub mod pipeline;
pub mod policy;
pub mod proto;
pub mod quality;
pub mod rows;
pub mod slab;
pub mod stats;
pub mod sync;
pub mod table;
pub mod time;
pub mod tracker;
pub mod verdicts;
pub mod zeek;
pub mod zeek_log;
