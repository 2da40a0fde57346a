//! Core columns → Arrow arrays, record batches and streams.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Int32Type, Int64Type, TimestampNanosecondType, UInt16Type, UInt64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use conntrack_core::columns::{COLUMNS, Column, Kind};
use conntrack_core::rows::{Row, Rows};

/// Rows in a record batch of a stream or a file.
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

/// The schema of the table.
pub fn schema() -> SchemaRef {
    let nullable = |name| matches!(name, "orig_zone" | "resp_zone" | "vlan" | "tunnel" | "related_to");
    let field = |column: &Column| Field::new(column.name, data_type(&column.kind), nullable(column.name));
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

fn numbers<'a, T: ArrowPrimitiveType>(
    rows: impl Iterator<Item = Row<'a>>,
    read: impl Fn(Row<'a>) -> T::Native,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(rows.map(read)))
}

fn addresses<'a>(rows: impl ExactSizeIterator<Item = Row<'a>>, read: impl Fn(Row<'a>) -> IpAddr) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * 14);
    for row in rows {
        // Writing to a StringBuilder cannot fail.
        let _ = write!(builder, "{}", read(row));
        builder.append_value("");
    }
    Arc::new(builder.finish())
}

/// A column of some rows.
pub fn array(column: &Column, rows: &Rows, places: Range<usize>, zones: &[String]) -> Result<ArrayRef, ArrowError> {
    let rows = rows.range(places);
    Ok(match column.kind {
        Kind::Time(read) => {
            let times = PrimitiveArray::<TimestampNanosecondType>::from_iter_values(rows.map(read));
            Arc::new(times.with_timezone("UTC"))
        }
        Kind::U64(read) => numbers::<UInt64Type>(rows, read),
        Kind::U16(read) => numbers::<UInt16Type>(rows, read),
        Kind::F32(read) => numbers::<Float32Type>(rows, read),
        Kind::Bool(read) => {
            let mut builder = BooleanBuilder::with_capacity(rows.len());
            for row in rows {
                builder.append_value(read(row));
            }
            Arc::new(builder.finish())
        }
        Kind::OptI32(read) => Arc::new(rows.map(read).collect::<PrimitiveArray<Int32Type>>()),
        Kind::OptI64(read) => Arc::new(rows.map(read).collect::<PrimitiveArray<Int64Type>>()),
        Kind::Word(read, words) => {
            let codes = rows.map(read).collect::<PrimitiveArray<UInt16Type>>();
            Arc::new(DictionaryArray::try_new(codes, Arc::new(StringArray::from(words(zones))))?)
        }
        Kind::Addr(read) => addresses(rows, read),
        Kind::Text(read) => Arc::new(StringArray::from_iter_values(rows.map(read))),
    })
}

/// Some rows as a record batch.
pub fn batch(
    schema: &SchemaRef,
    rows: &Rows,
    places: Range<usize>,
    zones: &[String],
) -> Result<RecordBatch, ArrowError> {
    let columns = COLUMNS.iter().map(|column| array(column, rows, places.clone(), zones)).collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}
