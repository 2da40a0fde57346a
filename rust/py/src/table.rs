//! A table of finished connections, shared by streams and files.

use std::sync::{Arc, OnceLock};

use conntrack_core::rows::Rows;
use conntrack_core::zeek_log::Seed;

/// Rows with their zones and their run.
pub struct Table {
    /// The rows.
    pub rows: Rows,
    /// Names of the zones by number.
    pub zones: Vec<String>,
    /// The run of the rows: numbers of connections are unique within a run.
    pub run: Arc<Run>,
}

/// A run, with the seed of its `uid`s once one was written.
#[derive(Default)]
pub struct Run {
    /// The seed.
    pub seed: OnceLock<Seed>,
}
