//! A table of finished connections, as streams and files share it.

use std::sync::{Arc, OnceLock};

use conntrack_core::rows::Rows;
use conntrack_core::zeek_log::Seed;

/// Rows with their zones and their run.
pub struct Table {
    /// The rows.
    pub rows: Rows,
    /// Names of the zones by number.
    pub zones: Vec<String>,
    /// Which run they are of: numbers of connections mean something only in their run.
    pub run: Arc<Run>,
}

/// A run, with the seed of its `uid`s once one was written.
#[derive(Default)]
pub struct Run {
    /// The seed.
    pub seed: OnceLock<Seed>,
}
