//! The Python extension module `conntrack_py._native`: conversions, and calls of the core.

mod annotate;
mod anonymise;
mod arrow;
mod arrow_batch;
mod arrow_in;
mod buffer;
mod checkpoint;
mod checkpoint_file;
mod config;
mod connections;
mod errors;
mod flows;
mod home;
mod nat;
mod packets;
mod policy;
mod ranges;
mod seam;
mod shard_rows;
mod source;
mod stream;
mod table;
mod toml;
mod track;
mod write;
mod writer;

use pyo3::prelude::*;

/// The compiled half of conntrack_py. Private: use the names of `conntrack_py`.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::annotate::{label, split};
    #[pymodule_export]
    use super::anonymise::Anonymiser;
    #[pymodule_export]
    use super::arrow_batch::{ArrowBatch, ArrowReader};
    #[pymodule_export]
    use super::arrow_in::{addresses, arrow_columns};
    #[pymodule_export]
    use super::buffer::Buffer;
    #[pymodule_export]
    use super::checkpoint::Checkpoint;
    #[pymodule_export]
    use super::config::{Config, default_timeouts};
    #[pymodule_export]
    use super::connections::Connections;
    #[pymodule_export]
    use super::flows::read_flows;
    #[pymodule_export]
    use super::nat::{correlate, recall, reveal};
    #[pymodule_export]
    use super::policy::{Policy, aggregate};
    #[pymodule_export]
    use super::ranges::{Walk, find_start, range_header};
    #[pymodule_export]
    use super::seam::{Headers, Part, cell};
    #[pymodule_export]
    use super::shard_rows::{Facts, ShardRows};
    #[pymodule_export]
    use super::stream::{Batch, Capture, Tracker};
    #[pymodule_export]
    use super::toml::toml_lines;
    #[pymodule_export]
    use super::track::{named, replay, track, track_with_names, walk};
    #[pymodule_export]
    use super::write::{write_all, write_file};
    #[pymodule_export]
    use super::writer::Writer;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("FLOW_KINDS", super::flows::kinds())?;
        module.add("FORMATS", super::formats(module.py())?)?;
        module.add("LABELS", conntrack_core::labels::FIELDS.to_vec())?;
        module.add("LABEL_BYTES", conntrack_core::labels::WIDTH)?;
        module.add("LOCAL", conntrack_core::config::Config::LOCAL.to_vec())?;
        module.add("NAT_EVIDENCE", conntrack_core::nat::Proof::NAMES.to_vec())?;
        module.add("EVIDENCE", super::evidence(module.py())?)?;
        module.add("PROFILES", super::config::profiles())?;
        module.add("PROTOCOLS", super::policy::protocols())?;
        module.add("REASONS", conntrack_core::pipeline::reasons().collect::<Vec<_>>())?;
        module.add("WORDS", super::words(module.py())?)
    }
}

/// The rungs of evidence from the weakest to the strongest: confidence, certainty, and a phrase for lists.
fn evidence(py: Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyDict>> {
    let rungs = pyo3::types::PyDict::new(py);
    for rung in conntrack_core::connection::Evidence::ALL {
        rungs.set_item(rung.name(), (rung.confidence(), rung.certainty().name(), rung.phrase()))?;
    }
    Ok(rungs)
}

/// The file formats: name → (suffixes, binary content, each row complete with its line).
fn formats(py: Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyDict>> {
    use write::Content;
    let formats = pyo3::types::PyDict::new(py);
    for format in write::Format::ALL {
        let content = format.content();
        let facts = (format.suffixes().to_vec(), content == Content::Binary, content == Content::Rows);
        formats.set_item(format.name(), facts)?;
    }
    Ok(formats)
}

/// Words behind the numbers of labels, by enum.
fn words(py: Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyDict>> {
    use conntrack_core::direction::Direction;
    use conntrack_core::pipeline::Fate;
    use conntrack_core::proto::{CtDir, CtState, State};
    use conntrack_core::verdicts::Verdict;
    let words = pyo3::types::PyDict::new(py);
    words.set_item("CtState", CtState::NAMES.to_vec())?;
    words.set_item("CtDir", CtDir::NAMES.to_vec())?;
    words.set_item("Direction", Direction::NAMES.map(str::to_uppercase).to_vec())?;
    words.set_item("State", State::NAMES.to_vec())?;
    words.set_item("Verdict", Verdict::NAMES.to_vec())?;
    words.set_item("Fate", Fate::NAMES.to_vec())?;
    Ok(words)
}
