//! The decoder: from a record to its packets.

use std::io::{self, Read, Write};

use super::bytes::Span;
use super::fragment::{Fragments, Key};
use super::ip::{self, Ip, Net, Piece};
use super::tunnel::{self, Carried};
use super::{Options, Packet, Skip, Tunnel, TunnelMode, link, transport, udp};
use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_capture::Record;

/// Maximum number of nested IP headers; deeper packets are not decoded.
const DEEPEST: usize = 8;

/// Decoder of records into packets. Fragmented datagrams are remembered between records, so all records of a capture
/// must go through one decoder, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    options: Options,
    fragments: Fragments,
    /// Keys of the fragmented datagrams around the current packet; a field, so that its memory is reused.
    carriers: Vec<Key>,
}

/// Packet at one level of encapsulation.
struct Found<'a> {
    packet: Packet,
    /// The inner packet, undecoded.
    carried: Option<Carried<'a>>,
    /// Key of the datagram whose first fragment the packet is.
    first: Option<Key>,
    /// Completed inner packet of the datagram that this fragment completes.
    inside: Option<Packet>,
}

impl Decoder {
    /// A decoder without state.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Decode a record and append its packets to `out`, outermost first. [`TunnelMode::Inner`] and
    /// [`TunnelMode::Outer`] give exactly one packet, [`TunnelMode::Both`] one or more.
    ///
    /// An inner packet of a fragmented datagram comes with the first fragment, and is complete with the fragment that
    /// completes the datagram. Only a later fragment before its first fragment gives no packet: its bytes are added
    /// to the first fragment's packet.
    ///
    /// `bytes` are the record's captured bytes. On `Err`, `out` is unchanged.
    #[inline]
    pub fn decode(&mut self, record: &Record, bytes: &[u8], out: &mut Vec<Packet>) -> Result<(), Skip> {
        let span = Span::new(bytes, record.len as usize);
        match link::usual(record.linktype, span) {
            Some(net) => self.network(&net, record.ts, out),
            None => self.unusual(record, span, out),
        }
    }

    /// Decode a record other than Ethernet with IPv4. The separate function lets the compiler specialize the fast
    /// path: fixed header layouts, fields in registers.
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
        // Fast path: no fragment, no tunnel. The packet is built in place, because a copy costs as much as the
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

    /// Save the fragment memory.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.fragments.save(out)
    }

    /// Load the fragment memory.
    pub fn load(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        self.fragments = Fragments::load(from)?;
        Ok(())
    }

    /// Number of later fragments whose first fragment was missing, was evicted, or has not arrived yet.
    pub fn orphans(&self) -> u64 {
        self.fragments.orphans()
    }

    /// Sizes of the fragment memory and of its queue.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        self.fragments.remembered()
    }

    /// Follow tunnels from a packet to the packet that counts.
    #[inline(never)]
    fn inwards(&mut self, mut found: Found<'_>, ts: i64, out: &mut Vec<Packet>) {
        self.carriers.clear();
        let mut incomplete = None;
        for _ in 1..DEEPEST {
            let Some(carried) = &found.carried else { break };
            // An undecodable inner packet leaves the carrier as the packet.
            let Ok(inner) = self.inner(carried, ts) else { break };
            incomplete = found.first.filter(|_| !found.packet.complete).or(incomplete);
            match self.options.tunnels {
                TunnelMode::Both => out.push(found.packet),
                TunnelMode::Inner | TunnelMode::Outer => self.carriers.extend(found.first),
            }
            let Some(inner) = inner else {
                // The owner of the bytes is known only with the inner first fragment. The later fragments of this
                // datagram cannot wait for that fragment.
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
        // A fragment's inner packet is complete, and judged, once the datagram is.
        if let Some(key) = incomplete
            && found.packet.complete
        {
            self.fragments.hold(&key, &found.packet);
            found.packet.complete = false;
        }
        out.push(found.packet);
        out.extend(found.inside);
    }

    /// Decode the inner packet of a tunnel; None for an early fragment.
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

    /// Decode an unfragmented datagram.
    #[inline]
    fn whole<'a>(&self, net: &Net<'a>, ip: &Ip<'a>, tunnel: Tunnel) -> Result<Found<'a>, Skip> {
        let mut packet = transport::begin(net, ip, tunnel);
        transport::read(ip, self.options.checksum, &mut packet)?;
        let carried = self.carried(ip, &packet);
        Ok(Found { packet, carried, first: None, inside: None })
    }

    /// Decode one fragment of a datagram; None before the datagram's first fragment.
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
