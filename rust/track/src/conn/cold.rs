//! Cold parts: whole connections next to their records, by number.

use crate::connection::Connection;
use conntrack_base::slab::Pool;

/// The cold parts of a table, and their bytes on the heap.
#[derive(Default)]
pub struct Colds {
    pool: Pool<Connection>,
    heap: usize,
    /// The clock hand: the first number of the next search for a victim.
    hand: u32,
}

impl Colds {
    /// Add a connection whose step goes on until [`Self::account`]; None where the numbers are exhausted.
    pub fn insert(&mut self, connection: Connection) -> Option<u32> {
        self.pool.insert(connection)
    }

    /// The connection with this number.
    pub fn get(&self, number: u32) -> Option<&Connection> {
        self.pool.get(number)
    }

    /// The connection with this number, between [`Self::step`] and [`Self::account`].
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Connection> {
        self.pool.get_mut(number)
    }

    /// Begin a step that may change the heap size of a connection.
    pub fn step(&mut self, number: u32) -> Option<&mut Connection> {
        let connection = self.pool.get_mut(number)?;
        self.heap = self.heap.saturating_sub(connection.parts_bytes());
        Some(connection)
    }

    /// End the step, and return the connection.
    pub fn account(&mut self, number: u32) -> Option<&Connection> {
        let connection = self.pool.get(number)?;
        self.heap += connection.parts_bytes();
        Some(connection)
    }

    /// Change the connection with this number, and its heap size.
    #[inline]
    pub fn change(&mut self, number: u32, change: impl FnOnce(&mut Connection)) {
        let Some(connection) = self.pool.get_mut(number) else { return };
        let before = connection.parts_bytes();
        change(connection);
        self.heap = (self.heap + connection.parts_bytes()).saturating_sub(before);
    }

    /// Remove a connection into a `Box`: a connection is large, and moved once.
    pub fn remove(&mut self, number: u32) -> Option<Box<Connection>> {
        self.step(number)?;
        self.pool.remove(number).map(Box::new)
    }

    /// Bytes of memory. A place without a connection keeps its memory for the next one.
    pub fn bytes(&self) -> usize {
        self.pool.reach() * size_of::<Connection>() + self.heap
    }

    /// Bytes of the connections.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.pool.len() * size_of::<Connection>() + self.heap
    }

    /// Bytes of memory with one more connection.
    pub fn next_bytes(&self) -> usize {
        self.pool.next_reach() * size_of::<Connection>() + self.heap
    }

    /// The next connection that is not assured, among this many places.
    pub fn victim(&mut self, range: u32) -> Option<&Connection> {
        let reach = u32::try_from(self.pool.reach()).unwrap_or(u32::MAX);
        for _ in 0..range.min(reach) {
            let number = self.hand;
            self.hand = (number + 1) % reach;
            if self.pool.get(number).is_some_and(|connection| !connection.is_assured()) {
                return self.pool.get(number);
            }
        }
        None
    }
}
