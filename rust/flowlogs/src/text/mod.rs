//! Logs with a record a line.

pub mod aws;
pub mod conntrack;
pub mod zeek;

use crate::sink::Sink;

/// A reader of lines of one file.
pub trait LineReader {
    /// Takes a line without its end.
    fn line(&mut self, line: &[u8], sink: &mut Sink<'_>);

    /// Takes the end of the file.
    fn end(&mut self, _sink: &mut Sink<'_>) {}
}

/// The words of a line, by spaces and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}
