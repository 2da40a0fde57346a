//! `correlate`: the captures of both sides of a gateway in; their connections and the pairs out.

use conntrack_core::nat::{self, Clock, Correlated, Side, Sketch};
use conntrack_core::pipeline::{self, RunOutput};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::buffer::Buffer;
use crate::config::Config;
use crate::connections::Connections;
use crate::source::Source;
use crate::track::{account, run, zones};

/// The tables and accounts of both sides, and the pairs with their counts.
type PyCorrelated<'py> =
    (Connections, Bound<'py, PyDict>, Connections, Bound<'py, PyDict>, Vec<Buffer>, Bound<'py, PyDict>);

/// Tracks the captures of both sides of a gateway, and pairs their connections. `clock`: the clock of the outside less that
/// of the inside, and its tolerance, in nanoseconds. The pairs are five arrays: rows inside and outside (u4), hairpin or
/// crossed (u1: bits 0 and 1), evidence (u1), bits (u2).
#[pyfunction]
#[pyo3(signature = (inside, outside, config, clock=None, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn correlate<'py>(
    py: Python<'py>,
    inside: Vec<Source>,
    outside: Vec<Source>,
    config: &Config,
    clock: Option<(i64, i64)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<PyCorrelated<'py>> {
    let core = config.core();
    let side = |sources: Vec<Source>| -> PyResult<(RunOutput, Sketch)> {
        run(py, sources, core, progress.as_ref(), |captures, observe| pipeline::sketched(captures, core, observe))
    };
    let (ours, own) = side(inside)?;
    let (theirs, others) = side(outside)?;
    let clock = clock.map(|(offset, tolerance)| Clock::given(offset, tolerance));
    let found = py.detach(|| {
        nat::correlate(Side { rows: &ours.rows, sketch: &own }, Side { rows: &theirs.rows, sketch: &others }, clock)
    });
    let (counts, accounts) = (counts(py, &found)?, [account(py, &ours.stats)?, account(py, &theirs.stats)?]);
    let [own, others] = accounts;
    let tables = [Connections::new(ours.rows, zones(core)), Connections::new(theirs.rows, zones(core))];
    let [ours, theirs] = tables;
    Ok((ours, own, theirs, others, arrays(&found), counts))
}

fn arrays(found: &Correlated) -> Vec<Buffer> {
    let pairs = || found.pairs.iter();
    let flags = |pair: &nat::Pair| u8::from(pair.hairpin) | u8::from(pair.crossed) << 1;
    vec![
        Buffer::new(pairs().map(|pair| pair.inside).collect::<Vec<u32>>().into()),
        Buffer::new(pairs().map(|pair| pair.outside).collect::<Vec<u32>>().into()),
        Buffer::new(pairs().map(flags).collect::<Vec<u8>>().into()),
        Buffer::new(pairs().map(|pair| pair.proof as u8).collect::<Vec<u8>>().into()),
        Buffer::new(pairs().map(|pair| pair.bits).collect::<Vec<u16>>().into()),
    ]
}

fn counts<'py>(py: Python<'py>, found: &Correlated) -> PyResult<Bound<'py, PyDict>> {
    let counts = PyDict::new(py);
    counts.set_item("ambiguous", found.account.ambiguous)?;
    counts.set_item("contradicted", found.account.contradicted)?;
    let clock = found.clock.as_ref();
    counts.set_item("offset", clock.map(Clock::offset))?;
    counts.set_item("drift", clock.map(Clock::drift))?;
    counts.set_item("tolerance", clock.map(|clock| clock.tolerance))?;
    counts.set_item("samples", clock.map(|clock| clock.samples))?;
    Ok(counts)
}
