//! Record batches as lines of JSON (RFC 8259).
//!
//! Times are ISO 8601 in UTC with nine digits of a second, so that text sorts as time does. A number above 2^53 is text:
//! readers with 64-bit floats, as RFC 8259 section 6 expects them, would round it.

use std::io::Write as _;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, PrimitiveArray, RecordBatch};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder};
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};
use conntrack_core::time::SECOND;

/// The largest number up to which a 64-bit float has every whole one.
const EXACT: u64 = 1 << 53;

/// An object a line.
pub fn lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Exact));
    let mut text = Vec::new();
    let mut writer = builder.build::<_, LineDelimited>(&mut text);
    writer.write(batch)?;
    writer.finish()?;
    Ok(text)
}

/// Encoders of times and counts.
#[derive(Debug)]
struct Exact;

impl EncoderFactory for Exact {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Box::new(Times(array.as_primitive())),
            DataType::UInt64 => Box::new(Counts(array.as_primitive())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Times<'a>(&'a PrimitiveArray<TimestampNanosecondType>);

impl Encoder for Times<'_> {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        let time = self.0.value(at);
        let whole = arrow_array::temporal_conversions::timestamp_s_to_datetime(time.div_euclid(SECOND));
        let rest = time.rem_euclid(SECOND);
        let text = whole.map(|whole| whole.format("%Y-%m-%dT%H:%M:%S").to_string()).unwrap_or_default();
        // Writing to a vector cannot fail.
        let _ = write!(out, "\"{text}.{rest:09}Z\"");
    }
}

struct Counts<'a>(&'a PrimitiveArray<UInt64Type>);

impl Encoder for Counts<'_> {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        let count = self.0.value(at);
        // Writing to a vector cannot fail.
        let _ = if count > EXACT { write!(out, "\"{count}\"") } else { write!(out, "{count}") };
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, TimestampNanosecondArray, UInt64Array};

    use super::*;

    #[test]
    fn numbers_that_floats_round_are_text() {
        let counts: ArrayRef = Arc::new(UInt64Array::from(vec![0, EXACT, EXACT + 1, u64::MAX]));
        let times = [Some(-1), Some(0), Some(1_767_225_600_000_000_001), None];
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times.to_vec()).with_timezone("UTC"));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("count", counts, false), ("time", times, true)]).unwrap();
        assert_eq!(
            String::from_utf8(lines(&batch).unwrap()).unwrap(),
            concat!(
                "{\"count\":0,\"time\":\"1969-12-31T23:59:59.999999999Z\"}\n",
                "{\"count\":9007199254740992,\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n",
                "{\"count\":\"9007199254740993\",\"time\":\"2026-01-01T00:00:00.000000001Z\"}\n",
                "{\"count\":\"18446744073709551615\",\"time\":null}\n",
            )
        );
    }
}
