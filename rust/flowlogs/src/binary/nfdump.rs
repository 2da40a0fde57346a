//! Files of nfdump, of its layout version 2 (nfdump 1.7).

use crate::run::Sink;

/// The reader.
pub struct Nfdump;

/// Test for the first octets of a file of nfdump.
pub fn is_file(head: &[u8]) -> bool {
    head.starts_with(&[0x0c, 0xa5])
}

impl Nfdump {
    /// The reader of a file with this head; otherwise why it cannot be read.
    pub fn of(_head: &[u8]) -> Result<Self, String> {
        Err("a file of nfdump".to_owned())
    }

    /// Takes whole blocks, and returns their octets.
    pub fn blocks(&mut self, bytes: &[u8], _ended: bool, _sink: &mut Sink<'_>) -> usize {
        bytes.len()
    }
}
