//! Logs of messages and records without lines: NetFlow 5 and 9, IPFIX, and files of nfdump.

mod exports;
mod fields;
mod nfdump;

use crate::sink::Sink;

use exports::Exports;
use nfdump::Nfdump;

/// The reader of a binary file.
pub enum Messages {
    /// Messages of exporters, one after another.
    Exports(Exports),
    /// A file of nfdump.
    Nfdump(Nfdump),
}

impl Messages {
    /// The reader of a file that begins so; otherwise what was found.
    pub fn of(head: &[u8]) -> Result<Self, String> {
        if nfdump::is_file(head) {
            return Nfdump::of(head).map(Self::Nfdump);
        }
        match head.get(..2).map(|version| u16::from_be_bytes([version[0], version[1]])) {
            Some(5 | 9 | 10) => Ok(Self::Exports(Exports::default())),
            _ => Err("neither the version 5, 9 or 10 of a message nor a file of nfdump".to_owned()),
        }
    }

    /// Takes the whole messages at the begin of `bytes`, and returns their bytes.
    pub fn messages(&mut self, bytes: &[u8], ended: bool, sink: &mut Sink<'_>) -> usize {
        match self {
            Self::Exports(exports) => exports.messages(bytes, ended, sink),
            Self::Nfdump(nfdump) => nfdump.blocks(bytes, ended, sink),
        }
    }
}
