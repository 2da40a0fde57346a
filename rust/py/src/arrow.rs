//! Core columns → Arrow arrays, record batches and streams.

use std::fmt::Write as _;
use std::mem::take;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Int32Builder, Int64Builder, StringBuilder, TimestampNanosecondBuilder, UInt16Builder,
};
use arrow_array::{ArrayRef, DictionaryArray, Float32Array, RecordBatch, StringArray, UInt16Array, UInt64Array};
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
    Field::new(column.name, data_type(&column.kind), may_be_null(column.name))
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
    values.append(&column.kind, rows);
    values.finish()
}

/// Builder of the array of a column.
enum Values {
    Time(TimestampNanosecondBuilder),
    U64(Vec<u64>),
    U16(Vec<u16>),
    F32(Vec<f32>),
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
            Kind::U64(_) => Self::U64(Vec::new()),
            Kind::U16(_) => Self::U16(Vec::new()),
            Kind::F32(_) => Self::F32(Vec::new()),
            Kind::Bool(_) => Self::Bool(BooleanBuilder::new()),
            Kind::OptI32(_) => Self::OptI32(Int32Builder::new()),
            Kind::OptI64(_) => Self::OptI64(Int64Builder::new()),
            Kind::Word(_, words) => Self::Word(UInt16Builder::new(), Arc::new(StringArray::from(words(zones)))),
            Kind::Addr(_) | Kind::Text(_) => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends the values of rows.
    fn append<'a>(&mut self, kind: &Kind, rows: impl Iterator<Item = Row<'a>>) {
        match (self, kind) {
            (Self::Time(values), Kind::Time(read)) => values.extend(rows.map(|row| timed(read(row)))),
            (Self::U64(values), Kind::U64(read)) => values.extend(rows.map(read)),
            (Self::U16(values), Kind::U16(read)) => values.extend(rows.map(read)),
            (Self::F32(values), Kind::F32(read)) => values.extend(rows.map(read)),
            (Self::Bool(values), Kind::Bool(read)) => values.extend(rows.map(|row| Some(read(row)))),
            (Self::OptI32(values), Kind::OptI32(read)) => values.extend(rows.map(read)),
            (Self::OptI64(values), Kind::OptI64(read)) => values.extend(rows.map(read)),
            (Self::Word(values, _), Kind::Word(read, _)) => values.extend(rows.map(read)),
            (Self::Text(values), Kind::Addr(read)) => {
                for row in rows {
                    // Writing to a StringBuilder cannot fail.
                    let _ = write!(values, "{}", read(row));
                    values.append_value("");
                }
            }
            (Self::Text(values), Kind::Text(read)) => values.extend(rows.map(|row| Some(read(row)))),
            _ => unreachable!("values are made for the kind of their column"),
        }
    }

    /// The array; the builder is empty after.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Time(values) => Arc::new(values.finish().with_timezone("UTC")),
            Self::U64(values) => Arc::new(UInt64Array::from(take(values))),
            Self::U16(values) => Arc::new(UInt16Array::from(take(values))),
            Self::F32(values) => Arc::new(Float32Array::from(take(values))),
            Self::Bool(values) => Arc::new(values.finish()),
            Self::OptI32(values) => Arc::new(values.finish()),
            Self::OptI64(values) => Arc::new(values.finish()),
            Self::Word(values, words) => Arc::new(DictionaryArray::try_new(values.finish(), words.clone())?),
            Self::Text(values) => Arc::new(values.finish()),
        })
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
            values.append(&column.kind, rows.clone());
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
