//! Some of the rows of a run, shared: a slice or a choice copies no row.

use std::ops::Range;
use std::sync::Arc;

use conntrack_track::direction::Locality;

use super::{Row, Rows};

/// Rows by place.
#[derive(Clone)]
enum Places {
    /// Consecutive ones.
    Range(Range<usize>),
    /// Any, in any order, each as often as it is listed.
    List(Arc<[usize]>),
}

impl Places {
    fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    #[inline]
    fn get(&self, at: usize) -> Option<usize> {
        match self {
            Self::Range(range) => (at < range.len()).then(|| range.start + at),
            Self::List(list) => list.get(at).copied(),
        }
    }
}

/// Shared rows, all of them or some.
#[derive(Clone)]
pub struct Selection {
    rows: Arc<Rows>,
    places: Places,
}

impl From<Rows> for Selection {
    fn from(rows: Rows) -> Self {
        let places = Places::Range(0..rows.len());
        Self { rows: Arc::new(rows), places }
    }
}

impl Selection {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at an index.
    #[inline]
    pub fn get(&self, at: usize) -> Option<Row<'_>> {
        self.rows.get(self.places.get(at)?)
    }

    /// The rows at these indices.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Self::len`].
    pub fn range(&self, some: Range<usize>) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        some.map(|at| self.get(at).expect("a place among the rows"))
    }

    /// All rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        self.range(0..self.len())
    }

    /// The local networks and zones.
    pub fn locality(&self) -> &Locality {
        self.rows.locality()
    }

    /// The local networks and zones, for other rows of the run.
    pub fn shared_locality(&self) -> Arc<Locality> {
        self.rows.locality.clone()
    }

    /// True for rows of a log, and translated ones.
    pub fn are_told(&self) -> bool {
        self.rows.are_told()
    }

    /// The first row of the whole table, in the selection or not.
    pub fn first_of_all(&self) -> Option<Row<'_>> {
        self.rows.get(0)
    }

    /// Consecutive rows, as far as there are any.
    #[must_use]
    pub fn slice(&self, some: Range<usize>) -> Self {
        let end = some.end.min(self.len());
        let start = some.start.min(end);
        let places = match &self.places {
            Places::Range(range) => Places::Range(range.start + start..range.start + end),
            Places::List(list) => Places::List(list.get(start..end).unwrap_or_default().into()),
        };
        Self { rows: self.rows.clone(), places }
    }

    /// The rows at these indices; None where one is not below [`Self::len`].
    pub fn choose(&self, some: &[u64]) -> Option<Self> {
        let place = |at: &u64| self.places.get(usize::try_from(*at).ok()?);
        let places = Places::List(some.iter().map(place).collect::<Option<_>>()?);
        Some(Self { rows: self.rows.clone(), places })
    }
}
