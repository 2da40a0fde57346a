//! Arrow from elsewhere: tables of any producer as columns of numbers and bytes.

use std::ffi::{CStr, c_void};

use arrow_array::ffi::{FFI_ArrowArray, from_ffi};
use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch, RecordBatchReader, StructArray, cast::AsArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, TimeUnit};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::buffer::Buffer;
use crate::connections::{SCHEMA, STREAM};

/// The name of an array's capsule in the Arrow PyCapsule interface.
pub const ARRAY: &CStr = c"arrow_array";

/// A column as memory: name, Arrow's name of the type, class (`int`, `time`, `text` or `bytes`), values, offsets, validity.
/// Values are i8 numbers or bytes, with i8 offsets for bytes. Validity is a byte a row, 0 for null; None without nulls.
pub type Column = (String, String, &'static str, Buffer, Option<Buffer>, Option<Buffer>);

/// The head of the interface's `ArrowSchema`, whose `release` the library keeps private. A consumer that took the schema
/// before leaves null there, and in the fields that the library reads.
#[repr(C)]
struct SchemaHead {
    texts: [*const c_void; 3],
    numbers: [i64; 2],
    children: [*const c_void; 2],
    release: *const c_void,
}

/// The columns with these names of anything that has `__arrow_c_stream__` or `__arrow_c_array__`, each in one piece.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn arrow_columns(py: Python<'_>, source: &Bound<'_, PyAny>, names: Vec<String>) -> PyResult<Vec<Column>> {
    let batches = batches(source)?;
    py.detach(|| columns(&batches, &names)).map_err(PyValueError::new_err)
}

/// All record batches of a source.
pub fn batches(source: &Bound<'_, PyAny>) -> PyResult<Vec<RecordBatch>> {
    if source.hasattr("__arrow_c_stream__")? {
        let reader = reader(source)?;
        // What has no rows has columns all the same.
        let none = RecordBatch::new_empty(reader.schema());
        return std::iter::once(Ok(none)).chain(reader).collect::<Result<_, _>>().map_err(refused);
    }
    if !source.hasattr("__arrow_c_array__")? {
        let kind = source.get_type().name()?;
        let message = format!(
            "found {kind}, expected an object with __arrow_c_stream__ or __arrow_c_array__, as data frames have"
        );
        return Err(PyValueError::new_err(message));
    }
    let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) =
        source.call_method0("__arrow_c_array__")?.extract()?;
    let schema = schema.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(ARRAY))?.cast::<FFI_ArrowArray>();
    // SAFETY: the capsules have the names of the Arrow PyCapsule interface, so that they hold these structures, and are
    // alive.
    let is_released = unsafe { array.as_ref().is_released() || schema.cast::<SchemaHead>().as_ref().release.is_null() };
    if is_released {
        let message = "the Arrow data: found capsules whose data was taken before, expected new ones: export it again";
        return Err(PyValueError::new_err(message));
    }
    // SAFETY: as above. The array is moved out, as the interface has it: what is left in the capsule is marked as released.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) }.map_err(refused)?;
    if !matches!(data.data_type(), DataType::Struct(_)) {
        let message = format!("found an array of {}, expected a struct array: one with columns", data.data_type());
        return Err(PyValueError::new_err(message));
    }
    // A record batch has no place for them.
    if data.null_count() > 0 {
        let message = format!("found {} rows that are null, expected columns of values", data.null_count());
        return Err(PyValueError::new_err(message));
    }
    Ok(vec![RecordBatch::from(StructArray::from(data))])
}

/// The stream of a source that has one.
pub fn reader(source: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let capsule: Bound<'_, PyCapsule> = source.call_method0("__arrow_c_stream__")?.extract()?;
    let stream = capsule.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: the capsule has the name of the interface, so that it holds a stream, and is alive. The stream is moved out.
    unsafe { RecordBatchStreamReader::from_raw(stream.as_ptr()) }.map_err(refused)
}

/// An error of Arrow data from elsewhere.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn refused(error: ArrowError) -> PyErr {
    PyValueError::new_err(format!("the Arrow data: {error}"))
}

/// A column without nulls, as a type: `LargeBinary`, `LargeUtf8`, or `Int64` for all whole numbers. `maker`: the function
/// that makes such columns.
pub fn whole(table: &RecordBatch, name: &str, data_type: &DataType, maker: &str) -> Result<ArrayRef, String> {
    let found = nullable(table, name, data_type, maker)?;
    if found.null_count() > 0 {
        return Err(format!("{name}: found null, expected a value in each row"));
    }
    Ok(found)
}

/// The same for a column that may have nulls.
pub fn nullable(table: &RecordBatch, name: &str, data_type: &DataType, maker: &str) -> Result<ArrayRef, String> {
    let found = table.column_by_name(name).ok_or_else(|| format!("{name}: found none, expected that of {maker}"))?;
    let values = match found.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let fits = match data_type {
        DataType::LargeBinary => matches!(values, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
        DataType::LargeUtf8 => {
            matches!(values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
        }
        _ => values.is_integer(),
    };
    if !fits {
        return Err(format!("{name}: found {}, expected that of {maker}", found.data_type()));
    }
    found.to_data().validate_full().map_err(|error| format!("{name}: {error}"))?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(found, data_type, &options).map_err(|error| format!("{name}: {error}"))
}

/// These columns of all batches.
fn columns(batches: &[RecordBatch], names: &[String]) -> Result<Vec<Column>, String> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in names {
        let Ok(index) = first.schema().index_of(name) else { continue };
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        let named = |error: ArrowError| format!("{name}: {error}");
        for part in &parts {
            // Whoever made it may have read it from a file that lies.
            part.to_data().validate_full().map_err(named)?;
        }
        let whole = arrow_select::concat::concat(&parts).map_err(named)?;
        found.push(column(name, &whole)?);
    }
    Ok(found)
}

/// A column of any type that has numbers, times, text or bytes.
fn column(name: &str, array: &ArrayRef) -> Result<Column, String> {
    let data_type = array.data_type();
    let values = match data_type {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let (holds, steps) = match values {
        DataType::Boolean => ("int", vec![DataType::Int64]),
        other if other.is_integer() => ("int", vec![DataType::Int64]),
        DataType::Timestamp(_, zone) => {
            // The time zone says how a time is written, not which it is.
            let own = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
            ("time", vec![own, nanoseconds, DataType::Int64])
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            ("text", vec![DataType::LargeUtf8, DataType::LargeBinary])
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            ("bytes", vec![DataType::LargeBinary])
        }
        other => return Err(format!("{name}: found {other}, expected whole numbers, timestamps, text or bytes")),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut array = array.clone();
    for step in steps {
        array = cast_with_options(&array, &step, &options).map_err(|error| format!("{name}: {error}"))?;
    }
    let valid = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let valid = valid.map(|nulls| Buffer::new(nulls.iter().map(u8::from).collect::<Vec<u8>>().into()));
    let (data, offsets) = if let DataType::LargeBinary = array.data_type() {
        let bytes = array.as_binary::<i64>();
        (bytes.values().clone(), Some(Buffer::new(bytes.offsets().inner().inner().clone())))
    } else {
        let numbers: &PrimitiveArray<Int64Type> = array.as_primitive();
        (numbers.values().inner().clone(), None)
    };
    Ok((name.to_owned(), data_type.to_string(), holds, Buffer::new(data), offsets, valid))
}

/// Text addresses as sixteen bytes each, IPv4 mapped into IPv6; zeros where a row is null (0 in `valid`).
#[pyfunction]
#[pyo3(signature = (name, data, offsets, valid=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn addresses(
    py: Python<'_>,
    name: &str,
    data: pyo3::buffer::PyBuffer<u8>,
    offsets: pyo3::buffer::PyBuffer<i64>,
    valid: Option<pyo3::buffer::PyBuffer<u8>>,
) -> PyResult<Buffer> {
    let (data, offsets) = (data.to_vec(py)?, offsets.to_vec(py)?);
    let valid = valid.map(|valid| valid.to_vec(py)).transpose()?;
    let parse = |(place, range): (usize, &[i64])| -> Result<[u8; 16], String> {
        if valid.as_ref().is_some_and(|valid| valid.get(place) == Some(&0)) {
            return Ok([0; 16]);
        }
        let start = range.first().and_then(|start| usize::try_from(*start).ok());
        let end = range.last().and_then(|end| usize::try_from(*end).ok());
        let bytes = start.zip(end).and_then(|(start, end)| data.get(start..end)).unwrap_or_default();
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        match text.parse() {
            Ok(std::net::IpAddr::V4(addr)) => Ok(addr.to_ipv6_mapped().octets()),
            Ok(std::net::IpAddr::V6(addr)) => Ok(addr.octets()),
            Err(_) => Err(format!(
                "{name}: found {:?} in packet {place}, expected an IPv4 or IPv6 address",
                String::from_utf8_lossy(bytes)
            )),
        }
    };
    let parsed: Result<Vec<[u8; 16]>, String> = py.detach(|| offsets.windows(2).enumerate().map(parse).collect());
    Ok(Buffer::new(parsed.map_err(PyValueError::new_err)?.into_flattened().into()))
}
