//! Connections of shards in portable types, and the second pass over them.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use conntrack_core::columns::{COLUMNS, Kind};
use conntrack_core::hindsight::{self, Entry, Id, Ids, KINDS};
use conntrack_core::pipeline::{self, Noted};
use conntrack_core::rows::Row;
use conntrack_core::time::timed;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::arrow_batch::ArrowBatch;
use crate::arrow_in;
use crate::config::Config;
use crate::errors::arrow_error;

/// Rows of a batch of connections or facts.
const ROWS: usize = 1 << 16;
/// The column that the second pass reads.
const ROW: &str = "hindsight";

fn hex(id: &Id) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

fn id(text: &str) -> Option<Id> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(u128::from_str_radix(text, 16).ok().filter(|_| is_id)?.to_be_bytes())
}

/// Connections in portable types: the columns of the table, with identifiers in place of rows. `noted`: with the column of
/// the second pass.
pub fn table<'a>(
    rows: impl ExactSizeIterator<Item = Row<'a>> + Clone,
    ids: &[Ids],
    noted: Option<&[Noted]>,
    zones: &[String],
) -> Result<RecordBatch, ArrowError> {
    let own: StringArray = ids.iter().map(|(id, _)| Some(hex(id))).collect();
    let mut fields = vec![Field::new("id", DataType::Utf8, false)];
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(own)];
    for column in COLUMNS {
        let array: ArrayRef = match column.kind {
            Kind::Time(read) => Arc::new(rows.clone().map(|row| timed(read(row))).collect::<Int64Array>()),
            Kind::U64(read) => Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| read(row).cast_signed()))),
            Kind::U16(read) => Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| i32::from(read(row))))),
            // The only number of a row.
            Kind::OptI64(_) => {
                Arc::new(ids.iter().map(|(_, related)| related.as_ref().map(hex)).collect::<StringArray>())
            }
            Kind::Word(read, words) => {
                let words = words(zones);
                let word = |code: Option<u16>| code.and_then(|code| words.get(usize::from(code)));
                Arc::new(rows.clone().map(|row| word(read(row))).collect::<StringArray>())
            }
            _ => crate::arrow::array(column, rows.clone(), zones)?,
        };
        fields.push(Field::new(column.name, array.data_type().clone(), crate::arrow::may_be_null(column.name)));
        arrays.push(array);
    }
    if let Some(noted) = noted {
        let bytes = rows.zip(noted).map(|(row, noted)| pipeline::row_bytes(row, noted));
        let array = BinaryArray::from_iter_values(bytes);
        fields.push(Field::new(ROW, DataType::Binary, false));
        arrays.push(Arc::new(array));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// All connections of some shards, for the second pass.
#[pyclass(module = "conntrack_py._native")]
pub struct ShardRows {
    rows: Option<pipeline::ShardRows>,
    zones: Vec<String>,
}

#[pymethods]
impl ShardRows {
    #[new]
    fn new(config: &Config) -> Self {
        let core = config.core();
        let zones = core.zones.iter().map(|zone| zone.name.clone()).collect();
        Self { rows: Some(pipeline::ShardRows::new(core)), zones }
    }

    /// Adds connections that `track_stream` returned with facts.
    fn add(&mut self, py: Python<'_>, flows: &Bound<'_, PyAny>) -> PyResult<()> {
        let rows = self.rows.as_mut().ok_or_else(spent)?;
        for table in arrow_in::batches(flows)? {
            py.detach(|| add_rows(rows, &table)).map_err(PyValueError::new_err)?;
        }
        Ok(())
    }

    /// The facts of the connections, which are spent.
    fn facts(&mut self, py: Python<'_>) -> PyResult<Facts> {
        let rows = self.rows.take().ok_or_else(spent)?;
        Ok(Facts { facts: py.detach(|| rows.facts()) })
    }

    /// The connections with hindsight, which are spent.
    fn look_back(&mut self, py: Python<'_>, facts: &mut Facts) -> PyResult<Vec<ArrowBatch>> {
        let rows = self.rows.take().ok_or_else(spent)?;
        py.detach(|| {
            let (rows, ids, remain) = rows.look_back(&mut facts.facts);
            let mut parts: Vec<&[usize]> = remain.chunks(ROWS).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            let part = |places: &[usize]| {
                let ids: Vec<Ids> = places.iter().map(|place| ids[*place]).collect();
                Ok(ArrowBatch::new(table(rows.choose(places), &ids, None, &self.zones)?))
            };
            parts.into_iter().map(part).collect::<Result<_, _>>()
        })
        .map_err(arrow_error)
    }
}

fn spent() -> PyErr {
    PyRuntimeError::new_err("the connections were taken before")
}

fn add_rows(rows: &mut pipeline::ShardRows, table: &RecordBatch) -> Result<(), String> {
    const MAKER: &str = "track_stream(facts=True)";
    let own = arrow_in::whole(table, "id", &DataType::LargeUtf8, MAKER)?;
    let related = arrow_in::nullable(table, "related_to", &DataType::LargeUtf8, MAKER)?;
    let packed = arrow_in::whole(table, ROW, &DataType::LargeBinary, MAKER)?;
    let (own, related, packed) = (own.as_string::<i64>(), related.as_string::<i64>(), packed.as_binary::<i64>());
    for row in 0..table.num_rows() {
        let named = |name: &str, text: &str| {
            id(text).ok_or_else(|| format!("{name}: found {text:?} in row {row}, expected 32 hexadecimal digits"))
        };
        let parent = if related.is_valid(row) { Some(named("related_to", related.value(row))?) } else { None };
        let ids = (named("id", own.value(row))?, parent);
        rows.add(packed.value(row), ids)
            .map_err(|found| format!("{ROW}: found {found} in row {row}, expected the column of {MAKER}"))?;
    }
    Ok(())
}

/// Facts of shards.
#[pyclass(module = "conntrack_py._native")]
#[derive(Default)]
pub struct Facts {
    facts: hindsight::Facts,
}

#[pymethods]
impl Facts {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Adds the facts of a table.
    fn add(&mut self, py: Python<'_>, facts: &Bound<'_, PyAny>) -> PyResult<()> {
        for table in arrow_in::batches(facts)? {
            py.detach(|| add_facts(&mut self.facts, &table)).map_err(PyValueError::new_err)?;
        }
        Ok(())
    }

    /// Leaves out what decides nothing; see the core.
    fn settle(&mut self, py: Python<'_>) {
        py.detach(|| self.facts.settle());
    }

    /// All facts, in an order of their own.
    fn tables(&self, py: Python<'_>) -> PyResult<Vec<ArrowBatch>> {
        py.detach(|| {
            let entries = self.facts.entries();
            let mut parts: Vec<&[Entry]> = entries.chunks(ROWS).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            parts.into_iter().map(|part| Ok(ArrowBatch::new(fact_table(part)?))).collect::<Result<_, _>>()
        })
        .map_err(arrow_error)
    }
}

fn fact_table(entries: &[Entry]) -> Result<RecordBatch, ArrowError> {
    let (mut kinds, mut keys, mut parents) = (StringBuilder::new(), BinaryBuilder::new(), StringBuilder::new());
    for one in entries {
        kinds.append_value(KINDS.get(one.kind).copied().unwrap_or_default());
        keys.append_value(&one.key);
        parents.append_option(one.parent.as_ref().map(hex));
    }
    let numbers =
        |read: fn(&Entry) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(entries.iter().map(read))) };
    let columns: [(&str, ArrayRef, bool); 6] = [
        ("kind", Arc::new(kinds.finish()), false),
        ("key", Arc::new(keys.finish()), false),
        ("first", numbers(|one| one.first), false),
        ("second", numbers(|one| one.second), false),
        ("bits", numbers(|one| one.bits), false),
        ("parent", Arc::new(parents.finish()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns)
}

fn add_facts(facts: &mut hindsight::Facts, table: &RecordBatch) -> Result<(), String> {
    const MAKER: &str = "facts";
    let kinds = arrow_in::whole(table, "kind", &DataType::LargeUtf8, MAKER)?;
    let keys = arrow_in::whole(table, "key", &DataType::LargeBinary, MAKER)?;
    let parents = arrow_in::nullable(table, "parent", &DataType::LargeUtf8, MAKER)?;
    let [first, second, bits] =
        ["first", "second", "bits"].map(|name| arrow_in::whole(table, name, &DataType::Int64, MAKER));
    let (first, second, bits) = (first?, second?, bits?);
    let number = |column: &ArrayRef, row: usize| column.as_primitive::<Int64Type>().value(row);
    let (kinds, keys, parents) = (kinds.as_string::<i64>(), keys.as_binary::<i64>(), parents.as_string::<i64>());
    for row in 0..table.num_rows() {
        let kind = KINDS.iter().position(|kind| *kind == kinds.value(row)).ok_or_else(|| {
            format!("kind: found {:?} in row {row}, expected one of {}", kinds.value(row), KINDS.join(", "))
        })?;
        let parent = parents.is_valid(row).then(|| parents.value(row));
        let named = parent.map(|text| id(text).ok_or(text)).transpose();
        let parent =
            named.map_err(|text| format!("parent: found {text:?} in row {row}, expected 32 hexadecimal digits"))?;
        let (first, second, bits) = (number(&first, row), number(&second, row), number(&bits, row));
        let entry = Entry { kind, key: keys.value(row).to_vec(), first, second, bits, parent };
        facts.add(&entry).map_err(|error| {
            let found = match error.column {
                "first" => first.to_string(),
                "second" => second.to_string(),
                _ => "other bytes".to_owned(),
            };
            format!("{}: found {found} in row {row}, expected {}", error.column, error.expected)
        })?;
    }
    Ok(())
}
