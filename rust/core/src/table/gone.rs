//! What leaves the table.

use std::borrow::Cow;

use crate::compact::Kept;
use crate::connection::{Connection, EndReason};

/// A connection that is in the table no more.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and none is kept")]
pub enum Gone {
    /// As its words say.
    Kept(Kept),
    /// One that had no room in them, or was in hand.
    Whole(Box<Connection>),
}

impl Gone {
    /// The connection.
    pub fn connection(&self) -> Cow<'_, Connection> {
        match self {
            Self::Kept(kept) => Cow::Owned(kept.connection()),
            Self::Whole(connection) => Cow::Borrowed(connection),
        }
    }

    /// Capture time at which it expires.
    #[inline]
    pub fn deadline(&self) -> i64 {
        match self {
            Self::Kept(kept) => kept.deadline,
            Self::Whole(connection) => connection.deadline,
        }
    }

    /// See [`Connection::end_reason`].
    #[inline]
    pub fn end_reason(&self, cause: EndReason) -> EndReason {
        match self {
            Self::Kept(kept) => kept.end_reason(cause),
            Self::Whole(connection) => connection.end_reason(cause),
        }
    }
}
