//! Finished connections as rows, columns and files; labels of packets, verdicts of a policy, and the account of a run.
#![forbid(unsafe_code)]

use conntrack_base::{checkpoint, time};
use conntrack_decode as decode;
use conntrack_track::{config, conn, connection, direction, flow, policy, proto, table, tracker, zeek};

pub mod columns;
pub mod ipfix;
pub mod labels;
pub mod listing;
pub mod quality;
pub mod rows;
pub mod stats;
pub mod verdicts;
pub mod zeek_log;
