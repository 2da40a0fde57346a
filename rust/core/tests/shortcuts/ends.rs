//! The ends of connections, and the packets that their moves make.

use conntrack_core::decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, Vlan, ipproto};

use super::moves::{A, F, FARTHEST, Fate, Move, Odd, Proto, R, S};

/// Captured bytes of a payload.
pub const READABLE: usize = 40;

/// A packet with the readable bytes of its payload, and its time.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub packet: Packet,
    pub bytes: [u8; READABLE],
    pub ts: i64,
}

/// Payloads that show the initiator, and others.
fn message(number: u8) -> [u8; READABLE] {
    const QUERY: &[u8] = b"\0\x09\x01\0\0\x01\0\0\0\0\0\0\x03www\0\0\x01\0\x01";
    const ANSWER: &[u8] = b"\0\x09\x81\0\0\x01\0\0\0\0\0\0\x03www\0\0\x01\0\x01";
    let text: &[u8] = match number {
        0 => b"",
        1 => QUERY,
        2 => ANSWER,
        3 => b"GET /a/path HTTP/1.1\r\nHost: a\r\n",
        4 => b"HTTP/1.1 200 OK\r\nServer: b\r\n",
        5 => b"SSH-2.0-OpenSSH_9.9\r\n",
        6 => b"\xff\xff\xff\xff\xff\xff\xff\xff",
        _ => b"M-SEARCH * HTTP/1.1\r\n",
    };
    let mut bytes = [0; READABLE];
    bytes[..text.len()].copy_from_slice(text);
    bytes
}

/// Sequence state of the two ends of a connection, client first.
#[derive(Clone, Copy)]
struct Numbers {
    next: [u32; 2],
    acked: [u32; 2],
}

/// The ends of all connections of a run.
pub struct Ends {
    numbers: [Numbers; 4],
    family: Family,
    vlan: [u16; 2],
    now: i64,
    came: Vec<Sent>,
    /// Delayed packets, with the number of moves to wait.
    late: Vec<(u8, Sent)>,
}

const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 53;
/// IP protocol number of ESP (RFC 4303).
const ESP: u8 = 50;
/// The identifier of the first client's echo.
const ECHO_ID: u16 = 7;

impl Ends {
    pub fn new(family: Family, vlan: [u16; 2], start: [u32; 2], now: i64) -> Self {
        let numbers = Numbers { next: start, acked: [0; 2] };
        Self { numbers: [numbers; 4], family, vlan, now, came: Vec::new(), late: Vec::new() }
    }

    /// Packets captured with a move: its own, and delayed ones that are due.
    pub fn send(&mut self, one: &Move) -> Vec<Sent> {
        self.now += one.wait;
        let mut captured = Vec::new();
        let again = match one.fate {
            Fate::Again(back) => self.came.len().checked_sub(1 + usize::from(back)).map(|at| self.came[at]),
            _ => None,
        };
        let sent = match again {
            Some(again) => Sent { ts: self.now, ..again },
            None => Sent { packet: self.packet(one), bytes: message(one.message), ts: self.now },
        };
        match one.fate {
            Fate::Lost => {}
            Fate::Later(behind) => self.late.push((behind, sent)),
            Fate::Comes | Fate::Again(_) => captured.push(sent),
        }
        let now = self.now;
        self.late.retain_mut(|(behind, sent)| {
            let is_due = *behind == 0;
            if is_due {
                captured.push(Sent { ts: now, ..*sent });
            }
            *behind = behind.saturating_sub(1);
            !is_due
        });
        self.came.extend(&captured);
        captured
    }

    fn addr(&self, last: u8) -> Addr {
        match self.family {
            Family::V4 => Addr::v4([10, 0, 0, last]),
            Family::V6 => Addr::v6([last; 16]),
        }
    }

    /// Five-tuple of a packet from or to a client; echo has no ports.
    fn tuple(&self, one: &Move, proto: u8) -> FiveTuple {
        let (client, server) = ((self.addr(1), CLIENT_PORT + u16::from(one.client)), (self.addr(2), SERVER_PORT));
        let ((src, sport), (dst, dport)) = if one.from_client { (client, server) } else { (server, client) };
        FiveTuple { src, dst, sport, dport, proto, family: self.family }
    }

    fn packet(&mut self, one: &Move) -> Packet {
        let is_v6 = self.family == Family::V6;
        let (icmp, kinds) = if is_v6 { (ipproto::ICMPV6, [128, 129]) } else { (ipproto::ICMP, [8, 0]) };
        let has_data = one.proto != Proto::Tcp || one.flags & (S | R) == 0 || one.odd == Odd::Data;
        let payload = if has_data && one.proto != Proto::Error { one.payload } else { 0 };
        let (l4, tuple, flow_id) = match one.proto {
            Proto::Tcp => (self.segment(one, payload), self.tuple(one, ipproto::TCP), 0),
            Proto::Udp => (L4::Udp, self.tuple(one, ipproto::UDP), 0),
            Proto::Echo => {
                let kind = kinds[usize::from(!one.from_client)];
                let tuple = FiveTuple { sport: kind.into(), dport: 0, ..self.tuple(one, icmp) };
                (
                    L4::Icmp { kind, code: 0, id: ECHO_ID + u16::from(one.client) },
                    tuple,
                    ECHO_ID + u16::from(one.client),
                )
            }
            Proto::Generic => {
                let tuple = FiveTuple { sport: 0, dport: 0, ..self.tuple(one, ESP) };
                (L4::Other, tuple, 0)
            }
            Proto::Error => {
                let kind = if is_v6 { 1 } else { 3 };
                // About a segment, or a datagram, of the receiver.
                let of = if one.payload > 0 { ipproto::TCP } else { ipproto::UDP };
                let quoted = self.tuple(&Move { from_client: !one.from_client, ..*one }, of);
                let tuple = FiveTuple { sport: kind.into(), dport: 3, ..self.tuple(one, icmp) };
                (L4::IcmpError { kind, code: 3, quoted: Some(quoted), quoted_id: 0 }, tuple, 0)
            }
        };
        Packet {
            tuple,
            vlan: Vlan {
                outer: if one.tag == 0 { self.vlan[usize::from(!one.from_client)] } else { one.tag },
                inner: 0,
            },
            flow_id,
            packets: 1,
            ip_bytes: 40 + payload,
            payload_bytes: payload,
            segment_bytes: payload,
            datagram_bytes: 40 + payload,
            complete: one.odd != Odd::Piece,
            fragment: one.odd == Odd::Piece,
            cut: one.odd == Odd::Cut,
            to_group: one.odd == Odd::Group,
            bad_checksum: one.odd == Odd::Checksum,
            malformed: one.odd == Odd::Malformed,
            payload: (0, if matches!(one.proto, Proto::Tcp | Proto::Udp) { payload.min(READABLE as u32) } else { 0 }),
            l4,
            ..Packet::default()
        }
    }

    /// A segment; data in order advances its end.
    fn segment(&mut self, one: &Move, payload: u32) -> L4 {
        let flags = one.flags;
        if one.unnumbered {
            return L4::Tcp(Tcp { flags, ..Tcp::default() }.without_numbers());
        }
        let (own, peer) = if one.from_client { (0, 1) } else { (1, 0) };
        let numbers = &mut self.numbers[usize::from(one.client)];
        let seq = numbers.next[own].wrapping_add_signed(one.seq);
        let due = if one.holds { numbers.acked[own] } else { numbers.next[peer] };
        let ack = if flags & A != 0 { due.wrapping_add_signed(one.ack) } else { 0 };
        numbers.acked[own] = ack;
        if (0..=FARTHEST).contains(&one.seq) {
            numbers.next[own] = seq.wrapping_add(payload + u32::from(flags & (S | F) != 0));
        }
        let opens = flags & S != 0;
        let shift = if opens { one.shift } else { 0 };
        L4::Tcp(Tcp {
            seq,
            ack,
            window: one.window,
            flags,
            has_options: shift > 0 || (opens && one.sack_permitted) || one.timestamps || one.sack > 0,
            wscale: shift,
            sack_permitted: opens && one.sack_permitted,
            timestamps: one.timestamps,
            sack: (one.sack > 0).then_some(ack.wrapping_add(one.sack)),
            unnumbered: false,
        })
    }
}
