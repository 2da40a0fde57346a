//! Translations: the captures of both sides of a gateway in, their connections and the pairs out; and a gateway's own table.

use conntrack_core::nat::{self, Clock, Correlated, Memory, Side, Sketch};
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
/// of the inside, and its tolerance, in nanoseconds. The pairs are arrays: rows inside and outside (u4), flags (u1: bit 0 a
/// hairpin, bit 1 crossed roles), evidence (u1), bits (u2).
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
    let (mut ours, own) = side(inside)?;
    let (mut theirs, others) = side(outside)?;
    let clock = clock.map(|(offset, tolerance)| Clock::given(offset, tolerance));
    let found = py.detach(|| {
        let sides = [(&ours.rows, &own), (&theirs.rows, &others)].map(|(rows, sketch)| Side { rows, sketch });
        let found = nat::correlate(sides[0], sides[1], clock);
        nat::translate(&mut ours.rows, &mut theirs.rows, &found.pairs);
        found
    });
    let accounts = [account(py, &ours.stats)?, account(py, &theirs.stats)?];
    let tables = [ours.rows, theirs.rows].map(|rows| Connections::of_translated(rows, zones(core)));
    let ([own, others], [ours, theirs]) = (accounts, tables);
    Ok((ours, own, theirs, others, arrays(&found), counts(py, &found)?))
}

/// A table with the translations that a gateway remembers; `real`: with the true ends in place of its own. Returns the
/// numbers of rows with an entry, and of those with entries that time does not tell apart.
#[pyfunction]
pub fn recall(py: Python<'_>, connections: &Connections, memory: &Connections, real: bool) -> (Connections, u64, u64) {
    let rows = connections.rows();
    let (made, count) = py.detach(|| {
        let memory = Memory::new(memory.rows().iter()).with_clock(rows.iter());
        nat::recall(rows.iter(), rows.shared_locality(), &memory, real)
    });
    (Connections::translated_of(made, connections.table()), count.told, count.untold)
}

/// A table with the ends of its translations in place of its own, from a confidence on.
#[pyfunction]
pub fn reveal(py: Python<'_>, connections: &Connections, least: f32) -> Connections {
    let rows = connections.rows();
    let made = py.detach(|| nat::reveal(rows.iter(), rows.shared_locality(), least));
    Connections::translated_of(made, connections.table())
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
