//! Core columns → Arrow arrays, record batches and streams.

use std::fmt::Write as _;
use std::mem::take;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Int32Builder, Int64Builder, StringBuilder, TimestampNanosecondBuilder, UInt16Builder,
};
use arrow_array::{ArrayRef, DictionaryArray, Float32Array, RecordBatch, StringArray, UInt16Array, UInt64Array};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use conntrack_core::columns::{Column, Kind};
use conntrack_core::rows::Row;
use conntrack_core::time::timed;

/// Rows in a record batch of a stream.
pub const BATCH_ROWS: usize = 1 << 17;

/// The Arrow type of a column.
fn data_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Time(_) => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        Kind::U64(_) => DataType::UInt64,
        Kind::U16(_) => DataType::UInt16,
        Kind::F32(_) => DataType::Float32,
        Kind::Bool(_) => DataType::Boolean,
        Kind::OptI32(_) => DataType::Int32,
        Kind::OptI64(_) => DataType::Int64,
        Kind::Word(..) => DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8)),
        Kind::Addr(_) | Kind::Text(_) => DataType::Utf8,
    }
}

/// The field of a column in Arrow's own types.
fn field(column: &Column) -> Field {
    Field::new(column.name, data_type(&column.kind), column.lacks.is_some() || may_be_null(column.name))
}

/// True for nullable columns.
pub fn may_be_null(name: &str) -> bool {
    matches!(name, "start" | "end" | "orig_zone" | "resp_zone" | "vlan" | "tunnel" | "related_to" | "vlan_reply")
}

/// The schema of a table of these columns.
pub fn schema(columns: &[&'static Column]) -> Schema {
    Schema::new(columns.iter().map(|column| field(column)).collect::<Vec<_>>())
}

/// A column of rows.
pub fn array<'a>(
    column: &Column,
    rows: impl Iterator<Item = Row<'a>>,
    zones: &[String],
) -> Result<ArrayRef, ArrowError> {
    let mut values = Values::new(&column.kind, zones);
    values.append(column, rows);
    values.finish()
}

/// Builder of the array of a column.
enum Values {
    Time(TimestampNanosecondBuilder),
    U64(Vec<u64>, NullBufferBuilder),
    U16(Vec<u16>, NullBufferBuilder),
    F32(Vec<f32>, NullBufferBuilder),
    Bool(BooleanBuilder),
    OptI32(Int32Builder),
    OptI64(Int64Builder),
    Word(UInt16Builder, ArrayRef),
    Text(StringBuilder),
}

impl Values {
    fn new(kind: &Kind, zones: &[String]) -> Self {
        match kind {
            Kind::Time(_) => Self::Time(TimestampNanosecondBuilder::new()),
            Kind::U64(_) => Self::U64(Vec::new(), NullBufferBuilder::new(0)),
            Kind::U16(_) => Self::U16(Vec::new(), NullBufferBuilder::new(0)),
            Kind::F32(_) => Self::F32(Vec::new(), NullBufferBuilder::new(0)),
            Kind::Bool(_) => Self::Bool(BooleanBuilder::new()),
            Kind::OptI32(_) => Self::OptI32(Int32Builder::new()),
            Kind::OptI64(_) => Self::OptI64(Int64Builder::new()),
            Kind::Word(_, words) => Self::Word(UInt16Builder::new(), Arc::new(StringArray::from(words(zones)))),
            Kind::Addr(_) | Kind::Text(_) => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends the values of rows.
    fn append<'a>(&mut self, column: &Column, rows: impl Iterator<Item = Row<'a>>) {
        let is_known = |row: Row<'_>| !column.is_unknown(row);
        match (self, &column.kind) {
            (Self::Time(values), Kind::Time(read)) => values.extend(rows.map(|row| timed(read(row)))),
            (Self::U64(values, nulls), Kind::U64(read)) => numbers(values, nulls, column, rows, *read),
            (Self::U16(values, nulls), Kind::U16(read)) => numbers(values, nulls, column, rows, *read),
            (Self::F32(values, nulls), Kind::F32(read)) => numbers(values, nulls, column, rows, *read),
            (Self::Bool(values), Kind::Bool(read)) => {
                values.extend(rows.map(|row| is_known(row).then(|| read(row))));
            }
            (Self::OptI32(values), Kind::OptI32(read)) => values.extend(rows.map(read)),
            (Self::OptI64(values), Kind::OptI64(read)) => values.extend(rows.map(read)),
            (Self::Word(values, _), Kind::Word(read, _)) => {
                values.extend(rows.map(|row| read(row).filter(|_| is_known(row))));
            }
            (Self::Text(values), Kind::Addr(read)) => {
                for row in rows {
                    // Writing to a StringBuilder cannot fail.
                    let _ = write!(values, "{}", read(row));
                    values.append_value("");
                }
            }
            (Self::Text(values), Kind::Text(read)) => {
                values.extend(rows.map(|row| is_known(row).then(|| read(row))));
            }
            _ => unreachable!("values are made for the kind of their column"),
        }
    }

    /// The array; the builder is empty after.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Time(values) => Arc::new(values.finish().with_timezone("UTC")),
            Self::U64(values, nulls) => Arc::new(UInt64Array::new(take(values).into(), nulls.finish())),
            Self::U16(values, nulls) => Arc::new(UInt16Array::new(take(values).into(), nulls.finish())),
            Self::F32(values, nulls) => Arc::new(Float32Array::new(take(values).into(), nulls.finish())),
            Self::Bool(values) => Arc::new(values.finish()),
            Self::OptI32(values) => Arc::new(values.finish()),
            Self::OptI64(values) => Arc::new(values.finish()),
            Self::Word(values, words) => Arc::new(DictionaryArray::try_new(values.finish(), words.clone())?),
            Self::Text(values) => Arc::new(values.finish()),
        })
    }
}

/// Appends numbers, with a note of those that the source does not know.
fn numbers<'a, T>(
    values: &mut Vec<T>,
    nulls: &mut NullBufferBuilder,
    column: &Column,
    rows: impl Iterator<Item = Row<'a>>,
    read: fn(Row<'_>) -> T,
) {
    if column.lacks.is_none() {
        let before = values.len();
        values.extend(rows.map(read));
        return nulls.append_n_non_nulls(values.len() - before);
    }
    for row in rows {
        nulls.append(!column.is_unknown(row));
        values.push(read(row));
    }
}

/// Builders of a record batch of some columns.
pub struct Builders {
    schema: SchemaRef,
    columns: Vec<(&'static Column, Values)>,
    rows: usize,
}

impl Builders {
    /// No rows yet.
    pub fn new(columns: Vec<&'static Column>, zones: &[String]) -> Self {
        let schema = schema(&columns);
        let columns = columns.into_iter().map(|column| (column, Values::new(&column.kind, zones))).collect();
        Self { schema: Arc::new(schema), columns, rows: 0 }
    }

    /// The schema of the columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Adds rows.
    pub fn append<'a>(&mut self, rows: &(impl ExactSizeIterator<Item = Row<'a>> + Clone)) {
        for (column, values) in &mut self.columns {
            values.append(column, rows.clone());
        }
        self.rows += rows.len();
    }

    /// The record batch; the builders are empty after.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let arrays = self.columns.iter_mut().map(|(_, values)| values.finish()).collect::<Result<_, _>>()?;
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}
