//! Headers to bytes, with right lengths and checksums.

use std::net::IpAddr;

/// No frame is longer.
pub const LONGEST: usize = 1600;
/// Minimum length of an Ethernet frame, without the checksum.
const SHORTEST: usize = 60;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Flags of TCP.
pub mod flags {
    #![allow(missing_docs, reason = "their names are the protocol's")]
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
}

/// TCP options, padded to whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Options {
    /// No options.
    None,
    /// MSS and window scale.
    Scale,
    /// MSS and the permission to send SACK blocks.
    SackPermitted,
    /// The timestamp and the echoed one.
    Stamps(u32, u32),
    /// The edges of one SACK block.
    Sack(u32, u32),
}

impl Options {
    /// Length of a whole header, with the fields before the options.
    const fn header_len(self) -> usize {
        match self {
            Self::None => 20,
            Self::Scale | Self::SackPermitted => 28,
            Self::Stamps(..) | Self::Sack(..) => 32,
        }
    }
}

/// Payload of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A segment.
    Tcp {
        /// Sequence and acknowledgement number.
        numbers: (u32, u32),
        /// See [`flags`].
        flags: u8,
        /// Window field of the header, unscaled.
        window: u16,
        /// Options of the header.
        options: Options,
    },
    /// A datagram.
    Udp,
    /// An echo request, or its reply.
    Echo {
        /// True for the reply.
        reply: bool,
        /// Identifier and sequence number.
        id: (u16, u16),
    },
}

/// Headers of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Sender and its port.
    pub source: (IpAddr, u16),
    /// Receiver and its port; both addresses are of one family.
    pub destination: (IpAddr, u16),
    /// IPv4 identification.
    pub ident: u16,
    /// Transport header.
    pub transport: Transport,
}

/// A buffer for one frame after another.
pub struct Frame {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }
}

impl Frame {
    /// Makes the frame of headers and payload.
    pub fn build(&mut self, headers: &Headers, payload: &[u8]) -> &[u8] {
        self.len = 0;
        let (from, to) = (headers.source.0, headers.destination.0);
        // The MAC addresses are the IP addresses' last bytes.
        self.put(&[2, 0, 0, 0, 0, last_byte(to), 2, 0, 0, 0, 0, last_byte(from)]);
        let segment = header_len(&headers.transport) + payload.len();
        let protocol = self.ip(headers, segment as u16);
        let start = self.len;
        self.transport(headers, payload.len() as u16);
        self.put(payload);

        let mut sum = add(0, &self.bytes[start..self.len]);
        if protocol != 1 {
            // ICMP over IPv4 alone has no pseudo-header.
            sum = with_address(with_address(sum, from), to) + segment as u64 + u64::from(protocol);
        }
        let checksum = match (fold(sum), protocol) {
            (0, UDP) => 0xFFFF,
            (checksum, _) => checksum,
        };
        let place = start
            + if protocol == TCP {
                16
            } else if protocol == UDP {
                6
            } else {
                2
            };
        self.bytes[place..place + 2].copy_from_slice(&checksum.to_be_bytes());

        while self.len < SHORTEST {
            self.put(&[0]);
        }
        &self.bytes[..self.len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// EtherType and IP header; returns the protocol's number.
    fn ip(&mut self, headers: &Headers, segment: u16) -> u8 {
        let v6 = headers.source.0.is_ipv6();
        let protocol = match headers.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp => UDP,
            Transport::Echo { .. } if v6 => 58,
            Transport::Echo { .. } => 1,
        };
        if v6 {
            self.put(&[0x86, 0xDD, 0x60, 0, 0, 0]);
            self.put(&segment.to_be_bytes());
            self.put(&[protocol, 64]);
        } else {
            self.put(&[8, 0, 0x45, 0]);
            self.put(&(20 + segment).to_be_bytes());
            self.put(&headers.ident.to_be_bytes());
            self.put(&[0x40, 0, 64, protocol, 0, 0]);
        }
        for address in [headers.source.0, headers.destination.0] {
            match address {
                IpAddr::V4(address) => self.put(&address.octets()),
                IpAddr::V6(address) => self.put(&address.octets()),
            }
        }
        if !v6 {
            let checksum = fold(add(0, &self.bytes[ETHERNET..self.len]));
            self.bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        protocol
    }

    fn options(&mut self, options: Options) {
        match options {
            Options::None => {}
            Options::Scale => self.put(&[2, 4, 0x05, 0xB4, 1, 3, 3, 7]),
            Options::SackPermitted => self.put(&[2, 4, 0x05, 0xB4, 4, 2, 1, 1]),
            Options::Stamps(first, second) | Options::Sack(first, second) => {
                let kind = if matches!(options, Options::Sack(..)) { 5 } else { 8 };
                self.put(&[1, 1, kind, 10]);
                self.put(&first.to_be_bytes());
                self.put(&second.to_be_bytes());
            }
        }
    }

    /// The transport's header, with a checksum of 0.
    fn transport(&mut self, headers: &Headers, payload: u16) {
        if !matches!(headers.transport, Transport::Echo { .. }) {
            self.put(&headers.source.1.to_be_bytes());
            self.put(&headers.destination.1.to_be_bytes());
        }
        match headers.transport {
            Transport::Tcp { numbers, flags, window, options } => {
                self.put(&numbers.0.to_be_bytes());
                self.put(&numbers.1.to_be_bytes());
                self.put(&[(header_len(&headers.transport) as u8 / 4) << 4, flags]);
                self.put(&window.to_be_bytes());
                self.put(&[0, 0, 0, 0]);
                self.options(options);
            }
            Transport::Udp => {
                self.put(&(8 + payload).to_be_bytes());
                self.put(&[0, 0]);
            }
            Transport::Echo { reply, id } => {
                let kind = match (headers.source.0.is_ipv6(), reply) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, reply) => 128 + u8::from(reply),
                };
                self.put(&[kind, 0, 0, 0]);
                self.put(&id.0.to_be_bytes());
                self.put(&id.1.to_be_bytes());
            }
        }
    }
}

fn header_len(transport: &Transport) -> usize {
    match transport {
        Transport::Tcp { options, .. } => options.header_len(),
        Transport::Udp | Transport::Echo { .. } => 8,
    }
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

fn with_address(sum: u64, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => add(sum, &address.octets()),
        IpAddr::V6(address) => add(sum, &address.octets()),
    }
}

/// Adds 16-bit words of the network's order.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let odd = words.remainder().first().map_or(0, |&byte| u64::from(byte) << 8);
    words.fold(sum + odd, |sum, word| sum + u64::from(u16::from_be_bytes([word[0], word[1]])))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}
