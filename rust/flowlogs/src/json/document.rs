//! The reader of a document, and values that are text in one log and numbers in another.

use std::borrow::Cow;

use serde::Deserialize;

use crate::sink::Sink;

/// A reader of documents.
pub trait DocumentReader {
    /// Takes a document; otherwise the reason why it is not read.
    fn document(&mut self, document: &[u8], sink: &mut Sink<'_>) -> Result<(), &'static str>;
}

/// A text or a number.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Scalar<'a> {
    /// A whole number.
    Whole(u64),
    /// A number with a fraction.
    Number(f64),
    /// Text.
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    /// The value as a whole number.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Whole(value) => Some(*value),
            Self::Number(_) => None,
            Self::Text(text) => crate::fields::number(text.as_bytes()),
        }
    }

    /// The value as a time: seconds since 1970, or text, in nanoseconds. A float has microseconds.
    pub fn time(&self) -> Option<i64> {
        match self {
            Self::Whole(value) => crate::fields::by_digits(*value),
            Self::Number(value) if (0.0..9e9).contains(value) => Some((value * 1e6).round() as i64 * 1_000),
            Self::Number(_) => None,
            Self::Text(text) => {
                crate::fields::moment(text.as_bytes()).or_else(|| crate::fields::seconds(text.as_bytes()))
            }
        }
    }
}
