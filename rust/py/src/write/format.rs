//! A file in one of the formats, written row by row in bounded memory. Output bytes do not depend on the sizes of the tables
//! written.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, Field, Schema};
use conntrack_core::columns::Column;
use conntrack_core::ecs;
use conntrack_core::ipfix::Messages;
use conntrack_core::listing;
use conntrack_core::rows::Row;
use conntrack_core::zeek_log::{Log, Seed};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::sink::Out;
use crate::arrow::Builders;

/// Rows of a record batch of an Arrow file, and rows that are brought to a parquet file at once.
const BLOCK_ROWS: usize = 1 << 15;
/// Rows of a row group.
const GROUP_ROWS: usize = 4 * BLOCK_ROWS;
/// Rows that are made text at once.
const TEXT_ROWS: usize = 1 << 12;

conntrack_core::words! {
    /// A format by name.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Format {
        /// Comma-separated values with a header line.
        Csv = "csv",
        /// A JSON object a line.
        Jsonl = "jsonl",
        /// An Arrow IPC file.
        Arrow = "arrow",
        /// Parquet.
        Parquet = "parquet",
        /// The lines of `conntrack -L`.
        Conntrack = "conntrack",
        /// Zeek's conn.log.
        Zeek = "zeek",
        /// Biflows in an IPFIX file (RFC 5655).
        Ipfix = "ipfix",
        /// Documents of the Elastic Common Schema, one a line.
        Ecs = "ecs",
    }
}

/// Bytes of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Text, each row complete with its line.
    Rows,
    /// Text whose rows are not all connections.
    Text,
    /// Not for a terminal.
    Binary,
}

impl Format {
    /// Test for text whose lines are complete rows, so that a cut file has a complete beginning.
    pub fn is_lines(self) -> bool {
        matches!(self, Self::Csv | Self::Jsonl | Self::Conntrack | Self::Zeek | Self::Ecs)
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The suffix of a file among others; `txt` where none tells the format.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Conntrack => "txt",
            Self::Ecs => "ndjson",
            format => format.suffixes().first().copied().unwrap_or_default(),
        }
    }

    /// The suffixes that tell the format of a path.
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Csv => &["csv"],
            Self::Jsonl => &["jsonl", "ndjson"],
            Self::Arrow => &["arrow", "feather", "ipc"],
            Self::Parquet => &["parquet"],
            Self::Conntrack | Self::Ecs => &[],
            Self::Zeek => &["log"],
            Self::Ipfix => &["ipfix"],
        }
    }

    /// The bytes of its files.
    pub fn content(self) -> Content {
        match self {
            Self::Csv | Self::Jsonl | Self::Ecs => Content::Rows,
            Self::Conntrack | Self::Zeek => Content::Text,
            Self::Arrow | Self::Parquet | Self::Ipfix => Content::Binary,
        }
    }
}

/// An open file.
pub struct Encoder {
    form: Form,
    /// Rows of the partial block.
    builders: Builders,
}

enum Form {
    Csv(Out),
    Jsonl(Out),
    Conntrack(Out),
    Zeek(Out, Log),
    Ipfix(Out, Messages),
    /// With the names of the zones.
    Ecs(Out, Vec<String>),
    Arrow(Box<FileWriter<Out>>),
    Parquet(Box<ArrowWriter<Out>>),
}

impl Encoder {
    /// Goes on with a file of lines that begins with the lines of an earlier encoder.
    pub fn resume(
        format: Format,
        out: Out,
        columns: Vec<&'static Column>,
        zones: &[String],
    ) -> Result<Self, ArrowError> {
        if format == Format::Csv {
            return Ok(Self { form: Form::Csv(out), builders: Builders::new(columns, zones) });
        }
        Self::new(format, out, columns, zones)
    }

    /// Begins a file of these columns, which formats with fixed columns ignore.
    pub fn new(
        format: Format,
        mut out: Out,
        columns: Vec<&'static Column>,
        zones: &[String],
    ) -> Result<Self, ArrowError> {
        let mut builders = Builders::new(columns, zones);
        let form = match format {
            Format::Csv => {
                csv(&builders.finish()?, true, &mut out)?;
                Form::Csv(out)
            }
            Format::Jsonl => Form::Jsonl(out),
            Format::Conntrack => Form::Conntrack(out),
            Format::Zeek => Form::Zeek(out, Log::default()),
            Format::Ipfix => Form::Ipfix(out, Messages::default()),
            Format::Ecs => Form::Ecs(out, zones.to_vec()),
            Format::Arrow => Form::Arrow(Box::new(FileWriter::try_new(out, builders.schema())?)),
            Format::Parquet => {
                let writer =
                    ArrowWriter::try_new(out, builders.schema().clone(), Some(properties()?)).map_err(refused)?;
                Form::Parquet(Box::new(writer))
            }
        };
        Ok(Self { form, builders })
    }

    /// Appends rows of the run of `seed`.
    pub fn append<'a>(
        &mut self,
        rows: impl ExactSizeIterator<Item = Row<'a>> + Clone,
        seed: Seed,
    ) -> Result<(), ArrowError> {
        match &mut self.form {
            Form::Conntrack(out) => {
                for line in rows.filter_map(listing::line) {
                    writeln!(out, "{line}")?;
                }
                Ok(())
            }
            Form::Ecs(out, zones) => {
                Ok(rows.into_iter().try_for_each(|row| writeln!(out, "{}", ecs::line(row, zones)))?)
            }
            Form::Zeek(out, log) => Ok(rows.into_iter().try_for_each(|row| log.append(row, seed, out))?),
            Form::Ipfix(out, messages) => Ok(rows.into_iter().try_for_each(|row| messages.append(row, out))?),
            Form::Csv(out) => blocks(&mut self.builders, TEXT_ROWS, rows, |batch| csv(batch, false, out)),
            Form::Jsonl(out) => blocks(&mut self.builders, TEXT_ROWS, rows, |batch| jsonl(batch, out)),
            Form::Arrow(writer) => blocks(&mut self.builders, BLOCK_ROWS, rows, |batch| writer.write(batch)),
            Form::Parquet(writer) => {
                blocks(&mut self.builders, BLOCK_ROWS, rows, |batch| writer.write(batch).map_err(refused))
            }
        }
    }

    /// Flushes whole lines, messages or blocks.
    pub fn flush(&mut self) -> Result<(), ArrowError> {
        match &mut self.form {
            Form::Csv(out) => {
                rest(&mut self.builders, |batch| csv(batch, false, out))?;
                Ok(out.flush()?)
            }
            Form::Jsonl(out) => {
                rest(&mut self.builders, |batch| jsonl(batch, out))?;
                Ok(out.flush()?)
            }
            Form::Conntrack(out) | Form::Zeek(out, _) | Form::Ipfix(out, _) | Form::Ecs(out, _) => Ok(out.flush()?),
            Form::Arrow(writer) => writer.flush(),
            Form::Parquet(writer) => Ok(writer.inner_mut().flush()?),
        }
    }

    /// Bytes in memory, as far as the format knows them.
    pub fn pending(&self) -> u64 {
        if let Form::Parquet(writer) = &self.form { writer.in_progress_size() as u64 } else { 0 }
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<(), ArrowError> {
        let builders = &mut self.builders;
        let mut out = match self.form {
            Form::Csv(mut out) => {
                rest(builders, |batch| csv(batch, false, &mut out))?;
                out
            }
            Form::Jsonl(mut out) => {
                rest(builders, |batch| jsonl(batch, &mut out))?;
                out
            }
            Form::Conntrack(out) | Form::Ecs(out, _) => out,
            Form::Zeek(mut out, mut log) => {
                log.finish(&mut out)?;
                out
            }
            Form::Ipfix(mut out, mut messages) => {
                messages.finish(&mut out)?;
                out
            }
            Form::Arrow(mut writer) => {
                rest(builders, |batch| writer.write(batch))?;
                writer.finish()?;
                writer.into_inner()?
            }
            Form::Parquet(mut writer) => {
                rest(builders, |batch| writer.write(batch).map_err(refused))?;
                writer.into_inner().map_err(refused)?
            }
        };
        Ok(out.flush()?)
    }
}

/// Converts an error of the parquet writer; errors of the system keep their type.
fn refused(error: ParquetError) -> ArrowError {
    match error {
        ParquetError::External(source) => ArrowError::ExternalError(source),
        error => error.into(),
    }
}

/// Fills blocks of `size` rows, and passes full ones to `bring`.
fn blocks<'a>(
    builders: &mut Builders,
    size: usize,
    mut rows: impl ExactSizeIterator<Item = Row<'a>> + Clone,
    mut bring: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    while rows.len() > 0 {
        let some = rows.len().min(size - builders.len());
        builders.append(&rows.clone().take(some));
        // The last of those that were taken.
        rows.nth(some - 1);
        if builders.len() == size {
            bring(&builders.finish()?)?;
        }
    }
    Ok(())
}

/// Passes the rows of the last, partial block to `bring`.
fn rest(builders: &mut Builders, bring: impl FnOnce(&RecordBatch) -> Result<(), ArrowError>) -> Result<(), ArrowError> {
    if builders.len() > 0 { bring(&builders.finish()?) } else { Ok(()) }
}

/// Text is made in memory: an error of the CSV writer would lose the number of the system's.
fn csv(batch: &RecordBatch, header: bool, out: &mut Out) -> Result<(), ArrowError> {
    let mut text = Vec::new();
    arrow_csv::WriterBuilder::new().with_header(header).build(&mut text).write(&portable(batch)?)?;
    Ok(out.write_all(&text)?)
}

fn jsonl(batch: &RecordBatch, out: &mut Out) -> Result<(), ArrowError> {
    Ok(out.write_all(&super::json::lines(batch)?)?)
}

/// Properties of the parquet writer. Times rise in small steps: they are delta-encoded. Community IDs are distinct: a
/// dictionary would only be larger.
fn properties() -> Result<WriterProperties, ArrowError> {
    let column = |name: &str| ColumnPath::from(name);
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_column_dictionary_enabled(column("community_id"), false);
    for name in ["start", "end"] {
        builder = builder
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    Ok(builder.build())
}

/// The batch with the time zone `+00:00`, which the text writers print without a time zone database.
fn portable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let (field, column) = if let Some(times) = column.as_any().downcast_ref::<TimestampNanosecondArray>() {
            let times: ArrayRef = Arc::new(times.clone().with_timezone("+00:00"));
            (Arc::new(Field::new(field.name(), times.data_type().clone(), field.is_nullable())), times)
        } else {
            (field.clone(), column.clone())
        };
        fields.push(field);
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
