//! Finished connections as rows, columns and files; labels of packets, verdicts of a policy, and statistics of a run.
#![forbid(unsafe_code)]

pub mod anonymise;
pub mod columns;
pub mod ecs;
pub mod ipfix;
pub mod labels;
pub mod listing;
pub mod quality;
pub mod rows;
pub mod stats;
pub mod verdicts;
pub mod zeek_log;
