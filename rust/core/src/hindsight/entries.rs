//! Facts as rows of a table, whose columns exist in every engine: a kind, a key, two numbers, bits, and a parent.
//!
//! | kind | key | `first`, `second` | `bits` | `parent` |
//! |---|---|---|---|---|
//! | `host` | address | connections initiated, answered | | |
//! | `endpoint` | address, protocol, port | connections accepted, whether it initiates | peers | |
//! | `meeting` | a TCP conversation with an open initiator | | | |
//! | `active` | bin of time | first begin, last end | | |
//! | `begin` | time of a file's first record | | | |
//! | `announced`, `question` | an expected connection | | | the connection that made it expected |
//!
//! Rows of one kind and key add up. Their order has no meaning. A table may come from anywhere: counts saturate.

use conntrack_base::bytes;

use super::roles::{EndpointRoles, Host};
use super::shared::{Facts, Id};

/// The kinds of facts, in the order of a table.
pub const KINDS: [&str; 7] = ["host", "endpoint", "meeting", "active", "begin", "announced", "question"];

/// A row of a table of facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Index of the kind in [`KINDS`].
    pub kind: usize,
    /// Key within the kind.
    pub key: Vec<u8>,
    /// First number.
    pub first: i64,
    /// Second number.
    pub second: i64,
    /// Bits.
    pub bits: i64,
    /// Identifier of the connection that made another one expected.
    pub parent: Option<Id>,
}

/// A row that is no fact: the column, and what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryError {
    /// Name of the column.
    pub column: &'static str,
    /// Description of the values expected.
    pub expected: &'static str,
}

impl Facts {
    /// All facts, sorted: equal facts give equal rows.
    pub fn entries(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut add = |kind: usize, key: Vec<u8>, [first, second]: [i64; 2], bits: u64, parent: Option<Id>| {
            all.push(Entry { kind, key, first, second, bits: bits.cast_signed(), parent });
        };
        for (key, host) in &self.hosts {
            add(0, bytes::put(Vec::new(), key), [host.initiated.into(), host.answered.into()], 0, None);
        }
        for (key, roles) in &self.endpoints {
            let counts = [roles.accepted.into(), roles.initiates.into()];
            add(1, bytes::put(Vec::new(), key), counts, roles.peers, None);
        }
        for meeting in &self.meetings {
            add(2, bytes::put(Vec::new(), meeting), [0; 2], 0, None);
        }
        for (bin, (start, end)) in &self.active {
            add(3, bytes::put(Vec::new(), bin), [*start, *end], 0, None);
        }
        for begin in &self.begins {
            add(4, bytes::put(Vec::new(), begin), [0; 2], 0, None);
        }
        for (kind, expecting) in [(5, &self.announced), (6, &self.questions)] {
            for (one, parent) in expecting.iter() {
                add(kind, bytes::put(Vec::new(), one), [0; 2], 0, parent);
            }
        }
        all.sort_unstable();
        all
    }

    /// Adds a fact.
    pub fn add(&mut self, entry: &Entry) -> Result<(), EntryError> {
        let Entry { kind, ref key, first, second, bits, parent } = *entry;
        let bad = |column, expected| EntryError { column, expected };
        let count = |column, value: i64| {
            let count = u64::try_from(value).map_err(|_| bad(column, "a count"))?;
            Ok(u32::try_from(count).unwrap_or(u32::MAX))
        };
        let no_key = bad("key", "the key of a fact of this kind");
        match kind {
            0 => {
                let host = Host { initiated: count("first", first)?, answered: count("second", second)? };
                self.hosts.entry(bytes::whole(key).ok_or(no_key)?).or_default().add(host);
            }
            1 => {
                let (accepted, initiates) = (count("first", first)?, count("second", second)? > 0);
                let roles = EndpointRoles { accepted, initiates, peers: bits.cast_unsigned() };
                self.endpoints.entry(bytes::whole(key).ok_or(no_key)?).or_default().add(roles);
            }
            2 => {
                self.meetings.insert(bytes::whole(key).ok_or(no_key)?);
            }
            3 => self.activate(bytes::whole(key).ok_or(no_key)?, (first, second)),
            4 => self.begin(bytes::whole(key).ok_or(no_key)?),
            5 => self.announce(bytes::whole(key).ok_or(no_key)?, parent),
            6 => self.ask(bytes::whole(key).ok_or(no_key)?, parent),
            _ => return Err(bad("kind", "a kind of fact")),
        }
        Ok(())
    }
}
