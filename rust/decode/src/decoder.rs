//! The decoder: one record in, its packets out.

use std::io::{self, Read, Write};

use super::bytes::Span;
use super::fragment::{Fragments, Key};
use super::ip::{self, Ip, Net, Piece};
use super::tunnel::{self, Carried};
use super::{Options, Packet, Skip, Tunnel, TunnelMode, link, transport, udp};
use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_capture::Record;

/// IP headers inside IP headers that are followed; a packet deeper inside is not looked at.
const DEEPEST: usize = 8;

/// Turns records into packets. It remembers fragmented datagrams from record to record, so that all records of a
/// capture must go through the same one, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    options: Options,
    fragments: Fragments,
    /// Fragmented datagrams on the way to the packet of this record. Here so that its memory is reused.
    carriers: Vec<Key>,
}

/// A packet on the way inwards.
struct Found<'a> {
    packet: Packet,
    /// What it carries.
    carried: Option<Carried<'a>>,
    /// Its key where it is the first fragment of a datagram.
    first: Option<Key>,
    /// What was inside the datagram that this fragment made whole.
    inside: Option<Packet>,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Appends the packets of this record to `out`, outermost first: exactly one with [`TunnelMode::Inner`] and
    /// [`TunnelMode::Outer`], one or more with [`TunnelMode::Both`]. A packet in a fragmented tunnel datagram comes with
    /// its first fragment, and is complete with the one that makes the datagram whole. None only for a later fragment that came before
    /// the first one of its datagram: its bytes are added to that one's packet.
    ///
    /// `bytes` are the record's captured bytes. Where it returns `Err`, `out` is as it was.
    #[inline]
    pub fn decode(&mut self, record: &Record, bytes: &[u8], out: &mut Vec<Packet>) -> Result<(), Skip> {
        let span = Span::new(bytes, record.len as usize);
        match link::usual(record.linktype, span) {
            Some(net) => self.network(&net, record.ts, out),
            None => self.unusual(record, span, out),
        }
    }

    /// Records other than IPv4 right behind an Ethernet header. Apart from those, so that for them the compiler knows
    /// every header's layout and keeps what it has read in registers.
    #[inline(never)]
    fn unusual(&mut self, record: &Record, span: Span<'_>, out: &mut Vec<Packet>) -> Result<(), Skip> {
        self.network(&link::open(record.linktype, span)?, record.ts, out)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one copy for the usual frame, one for all others; see `unusual`")]
    fn network(&mut self, net: &Net<'_>, ts: i64, out: &mut Vec<Packet>) -> Result<(), Skip> {
        let ip = ip::read(net, self.options.checksum)?;
        if let Some(piece) = ip.piece {
            if let Some(found) = self.fragment(net, &ip, piece, Tunnel::default(), ts)? {
                self.inwards(found, ts, out);
            }
            return Ok(());
        }
        // Most packets of most captures: no fragment, no tunnel. Written where it stays, for copying takes as long as
        // decoding.
        out.push(transport::begin(net, &ip, Tunnel::default()));
        let Some(packet) = out.last_mut() else { return Ok(()) };
        if let Err(skip) = transport::read(&ip, self.options.checksum, packet) {
            out.pop();
            return Err(skip);
        }
        if let Some(carried) = self.carried(&ip, packet) {
            let packet = *packet;
            out.pop();
            self.inwards(Found { packet, carried: Some(carried), first: None, inside: None }, ts, out);
        }
        Ok(())
    }

    /// Writes what it remembers.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.fragments.save(out)
    }

    /// Reads what was written.
    pub fn load(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        self.fragments = Fragments::load(from)?;
        Ok(())
    }

    /// Later fragments given up because their first one was not seen, was forgotten, or has not come yet.
    pub fn orphans(&self) -> u64 {
        self.fragments.orphans()
    }

    /// Datagrams in the fragment memory, and entries of its queue.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        self.fragments.remembered()
    }

    /// Follows tunnels from a packet to the one that counts.
    #[inline(never)]
    fn inwards(&mut self, mut found: Found<'_>, ts: i64, out: &mut Vec<Packet>) {
        self.carriers.clear();
        let mut incomplete = None;
        for _ in 1..DEEPEST {
            let Some(carried) = &found.carried else { break };
            // What cannot be read inside leaves its carrier as the packet.
            let Ok(inner) = self.inner(carried, ts) else { break };
            incomplete = found.first.filter(|_| !found.packet.complete).or(incomplete);
            match self.options.tunnels {
                TunnelMode::Both => out.push(found.packet),
                TunnelMode::Inner | TunnelMode::Outer => self.carriers.extend(found.first),
            }
            let Some(inner) = inner else {
                // Whose packet it is will be known when the first fragment inside comes; this datagram's own later
                // fragments cannot wait for that.
                for key in &self.carriers {
                    self.fragments.forget(key);
                }
                return;
            };
            found = inner;
        }
        for key in &self.carriers {
            self.fragments.carry(key, &found.packet);
        }
        // What a fragment carries is whole, and judged, once the fragment's datagram is.
        if let Some(key) = incomplete
            && found.packet.complete
        {
            self.fragments.hold(&key, &found.packet);
            found.packet.complete = false;
        }
        out.push(found.packet);
        out.extend(found.inside);
    }

    /// The packet inside a tunnel; None for an early fragment.
    fn inner<'a>(&mut self, carried: &Carried<'a>, ts: i64) -> Result<Option<Found<'a>>, Skip> {
        let Carried { net, tunnel, must_fit } = carried;
        let ip = ip::read(net, self.options.checksum)?;
        if *must_fit && ip.length as usize > net.span.wire() {
            return Err(Skip::BadIpHeader);
        }
        match ip.piece {
            Some(piece) => self.fragment(net, &ip, piece, *tunnel, ts),
            None => self.whole(net, &ip, *tunnel).map(Some),
        }
    }

    /// A whole datagram.
    #[inline]
    fn whole<'a>(&self, net: &Net<'a>, ip: &Ip<'a>, tunnel: Tunnel) -> Result<Found<'a>, Skip> {
        let mut packet = transport::begin(net, ip, tunnel);
        transport::read(ip, self.options.checksum, &mut packet)?;
        let carried = self.carried(ip, &packet);
        Ok(Found { packet, carried, first: None, inside: None })
    }

    /// One fragment of a datagram; None where it came before the first one.
    #[inline(never)]
    fn fragment<'a>(
        &mut self,
        net: &Net<'a>,
        ip: &Ip<'a>,
        piece: Piece,
        tunnel: Tunnel,
        ts: i64,
    ) -> Result<Option<Found<'a>>, Skip> {
        let mut packet = transport::begin(net, ip, tunnel);
        let key = Key::new(&packet, piece.id);
        if piece.offset > 0 {
            let (known, inside) = self.fragments.later(key, piece, ip.payload.wire() as u32, &mut packet, ts);
            return Ok(known.then_some(Found { packet, carried: None, first: None, inside }));
        }
        transport::read(ip, self.options.checksum, &mut packet)?;
        self.fragments.first(key, &mut packet, ip.payload.wire() as u32, udp::length(ip), ts);
        let carried = self.carried(ip, &packet);
        Ok(Some(Found { packet, carried, first: Some(key), inside: None }))
    }

    #[inline]
    fn carried<'a>(&self, ip: &Ip<'a>, packet: &Packet) -> Option<Carried<'a>> {
        match self.options.tunnels {
            TunnelMode::Outer => None,
            TunnelMode::Inner | TunnelMode::Both => tunnel::carried(ip, packet),
        }
    }
}
