//! Connections removed from the table.

use std::borrow::Cow;

use crate::conn::{self, Image};
use crate::connection::{Connection, EndReason};
use crate::flow::FlowKey;

/// A connection removed from the table: its record alone, or the whole connection.
#[derive(Clone, Debug)]
pub enum FinalConnection {
    /// A complete record without a cold part.
    Hot {
        /// The key.
        key: FlowKey,
        /// The record.
        image: Image,
        /// Capture time of the expiry, nanoseconds.
        deadline: i64,
    },
    /// The whole connection, up to date.
    Whole(Box<Connection>),
}

impl FinalConnection {
    /// The connection's number.
    #[inline]
    pub fn id(&self) -> u64 {
        match self {
            Self::Hot { image, .. } => image.id.into(),
            Self::Whole(connection) => connection.id,
        }
    }

    /// Capture time of the expiry, nanoseconds.
    #[inline]
    pub fn deadline(&self) -> i64 {
        match self {
            Self::Hot { deadline, .. } => *deadline,
            Self::Whole(connection) => connection.deadline,
        }
    }

    /// Capture time of the first packet.
    #[inline]
    pub fn start(&self) -> i64 {
        match self {
            Self::Hot { image, .. } => image.start as i64,
            Self::Whole(connection) => connection.start,
        }
    }

    /// The reason to report where something other than the packets ended the connection; see
    /// [`Connection::end_reason`].
    #[inline]
    pub fn end_reason(&self, cause: EndReason) -> EndReason {
        match self {
            Self::Hot { image, .. } => EndReason::of(image.state(), image.is_refused(), None, cause),
            Self::Whole(connection) => connection.end_reason(cause),
        }
    }

    /// The connection.
    pub fn connection(&self) -> Cow<'_, Connection> {
        match self {
            Self::Hot { key, image, deadline } => Cow::Owned(conn::expand(image, *key, *deadline)),
            Self::Whole(connection) => Cow::Borrowed(connection),
        }
    }
}
