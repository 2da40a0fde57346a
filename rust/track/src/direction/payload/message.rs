//! A payload as its readers take it, and the common steps of readers.

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::direction) enum Speaker {
    /// The end that sends requests.
    Client,
    /// The end that sends answers.
    Server,
}

/// A payload with its facts.
#[derive(Clone, Copy, Debug)]
pub(in crate::direction) struct Message<'a> {
    /// Source and destination port.
    pub(super) ports: [u16; 2],
    /// Captured bytes.
    pub(super) bytes: &'a [u8],
    /// Length by the headers.
    pub(super) length: usize,
    /// True if the capture did not cut the payload.
    pub(super) whole: bool,
}

impl<'a> Message<'a> {
    /// A payload from the first of these ports to the second. `bytes` may have padding after `length`.
    pub(in crate::direction) fn new(ports: [u16; 2], bytes: &'a [u8], length: usize, whole: bool) -> Self {
        Self { ports, bytes: bytes.get(..length).unwrap_or(bytes), length, whole }
    }

    /// The bytes, if all of them were captured.
    pub(super) fn all(&self) -> Option<&'a [u8]> {
        Some(self.bytes).filter(|bytes| bytes.len() == self.length)
    }

    /// Test whether one of the ports is of this kind.
    pub(super) fn has_port(&self, is_of: impl Fn(u16) -> bool) -> bool {
        self.ports.into_iter().any(is_of)
    }
}

/// The sender of a message, if its direction agrees with the port of its protocol. A single bit of another protocol on
/// that port must not flip the connection.
#[inline]
pub(super) fn agreeing(
    [from, to]: [u16; 2],
    is_served: impl Fn(u16) -> bool,
    read: impl FnOnce() -> Option<Speaker>,
) -> Option<Speaker> {
    let [from_server, to_server] = [from, to].map(is_served);
    if !from_server && !to_server {
        return None;
    }
    read().filter(|speaker| if *speaker == Speaker::Client { to_server } else { from_server })
}

/// The 16-bit number in network order at an offset.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 32-bit number in network order at an offset.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
