//! A table of finished connections, shared by streams and files.

use std::sync::{Arc, OnceLock};

use conntrack_core::columns::Column;
use conntrack_core::rows::Selection;
use conntrack_core::zeek_log::Seed;

/// Rows with their zones and their run.
pub struct Table {
    /// The rows.
    pub rows: Selection,
    /// The columns, in their order.
    pub columns: Vec<&'static Column>,
    /// Names of the zones by number.
    pub zones: Vec<String>,
    /// The run of the rows: numbers of connections are unique within a run.
    pub run: Arc<Run>,
}

impl Table {
    /// The seed of the run; without one it comes from the first row of the whole table, of which this may be a part.
    pub fn run_of_part(&self) -> Arc<Run> {
        if let Some(first) = self.rows.first_of_all() {
            self.run.seed.get_or_init(|| Seed::of(first, 0));
        }
        self.run.clone()
    }
}

/// A run, with the seed of its `uid`s once one was written.
#[derive(Default)]
pub struct Run {
    /// The seed.
    pub seed: OnceLock<Seed>,
}
