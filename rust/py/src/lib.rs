//! The Python extension module `conntrack_py._native`: it converts, and calls the core.

mod annotate;
mod arrow;
mod arrow_in;
mod buffer;
mod checkpoint;
mod config;
mod connections;
mod errors;
mod packets;
mod policy;
mod seam;
mod source;
mod stream;
mod toml;
mod track;
mod write;

use pyo3::prelude::*;

/// The compiled half of conntrack_py. Private: use the names of `conntrack_py`.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::annotate::{label, split};
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
    use super::policy::{Policy, aggregate};
    #[pymodule_export]
    use super::seam::{ArrowBatch, ArrowReader, Headers, Part, cell};
    #[pymodule_export]
    use super::stream::{Batch, Capture, Tracker};
    #[pymodule_export]
    use super::toml::toml_lines;
    #[pymodule_export]
    use super::track::{named, replay, track, walk};
    #[pymodule_export]
    use super::write::Writer;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("FORMATS", super::formats(module.py())?)?;
        module.add("LABELS", conntrack_core::labels::FIELDS.to_vec())?;
        module.add("LABEL_BYTES", conntrack_core::labels::WIDTH)?;
        module.add("LOCAL", conntrack_core::config::Config::LOCAL.to_vec())?;
        module.add("PROFILES", super::config::profiles())?;
        module.add("PROTOCOLS", super::policy::protocols())?;
        module.add("REASONS", super::reasons())?;
        module.add("WORDS", super::words(module.py())?)
    }
}

/// The file formats: name → (suffixes, what is written is binary, each row is complete with its line).
fn formats(py: Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyDict>> {
    use write::Content;
    let formats = pyo3::types::PyDict::new(py);
    for (_, name, content, suffixes) in &write::FORMATS {
        formats.set_item(name, (suffixes.to_vec(), *content == Content::Binary, *content == Content::Rows))?;
    }
    Ok(formats)
}

/// Every reason of `stats.skipped`.
fn reasons() -> Vec<&'static str> {
    use conntrack_core::capture::DamageKind;
    use conntrack_core::decode::Skip;
    use conntrack_core::pipeline::TABLE_FULL;
    let packets = Skip::ALL.map(Skip::name);
    let damage = DamageKind::ALL.map(DamageKind::reason);
    packets.into_iter().chain(damage).chain([TABLE_FULL]).collect()
}

/// The words behind the numbers of labels, by enum.
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
