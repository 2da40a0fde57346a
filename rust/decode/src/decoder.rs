//! The decoder: from a record to its packets.

use std::io::{self, Read, Write};

use super::bytes::Span;
use super::fragment::{Fragments, Key};
use super::ip::{self, Fragment, Ip, Net};
use super::tunnel::{self, InnerPacket};
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
    /// Aggregated subframes that were passed over.
    subframes: u64,
}

/// Packet at one level of encapsulation.
struct Level<'a> {
    packet: Packet,
    /// The inner packet, undecoded.
    inner: Option<InnerPacket<'a>>,
    /// Key of the datagram whose first fragment the packet is.
    first: Option<Key>,
    /// Completed inner packet of the datagram that this fragment completes.
    completed: Option<Packet>,
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
        match link::fast_path(record.linktype, span) {
            Some(net) => self.network(&net, record.ts, out),
            None => self.slow_path(record, span, out),
        }
    }

    /// Decode a record whose checksums are not there yet, and verify none.
    #[inline(never)]
    pub fn decode_unsummed(&mut self, record: &Record, bytes: &[u8], out: &mut Vec<Packet>) -> Result<(), Skip> {
        let verify = std::mem::take(&mut self.options.checksum);
        let decoded = self.decode(record, bytes, out);
        self.options.checksum = verify;
        decoded
    }

    /// Decode a record other than Ethernet with IPv4. The separate function lets the compiler specialize the fast
    /// path: fixed header layouts, fields in registers.
    #[inline(never)]
    fn slow_path(&mut self, record: &Record, span: Span<'_>, out: &mut Vec<Packet>) -> Result<(), Skip> {
        let net = link::open(record.linktype, span)?;
        self.subframes += u64::from(net.passed_over);
        self.network(&net, record.ts, out)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one copy for the fast path, one for all others; see `slow_path`")]
    fn network(&mut self, net: &Net<'_>, ts: i64, out: &mut Vec<Packet>) -> Result<(), Skip> {
        let ip = ip::read(net, self.options.checksum)?;
        if let Some(fragment) = ip.fragment {
            if let Some(found) = self.fragment(net, &ip, fragment, Tunnel::default(), ts)? {
                self.follow_tunnels(found, ts, out);
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
        if let Some(inner) = self.inner(&ip, packet) {
            let packet = *packet;
            out.pop();
            self.follow_tunnels(Level { packet, inner: Some(inner), first: None, completed: None }, ts, out);
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

    /// Number of fragmented datagrams forgotten before their time, to make room for others.
    pub fn forgotten(&self) -> u64 {
        self.fragments.forgotten()
    }

    /// Number of subframes of 802.11 aggregates beside the decoded ones.
    pub fn subframes(&self) -> u64 {
        self.subframes
    }

    /// Sizes of the fragment memory and of its queue.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        self.fragments.remembered()
    }

    /// Follow tunnels from a packet to the packet that counts.
    #[inline(never)]
    fn follow_tunnels(&mut self, mut level: Level<'_>, ts: i64, out: &mut Vec<Packet>) {
        self.carriers.clear();
        let mut incomplete = None;
        for _ in 1..DEEPEST {
            let Some(inner) = &level.inner else { break };
            // An undecodable inner packet leaves the carrier as the packet.
            let Ok(next) = self.decode_inner(inner, ts) else { break };
            self.subframes += u64::from(inner.net.passed_over);
            incomplete = level.first.filter(|_| !level.packet.complete).or(incomplete);
            match self.options.tunnels {
                TunnelMode::Both => out.push(level.packet),
                TunnelMode::Inner | TunnelMode::Outer => self.carriers.extend(level.first),
            }
            let Some(next) = next else {
                // The owner of the bytes is known only with the inner first fragment. The later fragments of this
                // datagram cannot wait for that fragment.
                for key in &self.carriers {
                    self.fragments.forget_first(key);
                }
                return;
            };
            level = next;
        }
        for key in &self.carriers {
            self.fragments.assign_later(key, &level.packet);
        }
        // A fragment's inner packet is complete, and judged, once the datagram is.
        if let Some(key) = incomplete
            && level.packet.complete
        {
            self.fragments.hold_inner(&key, &level.packet);
            level.packet.complete = false;
        }
        out.push(level.packet);
        out.extend(level.completed);
    }

    /// Decode the inner packet of a tunnel; None for an early fragment.
    fn decode_inner<'a>(&mut self, inner: &InnerPacket<'a>, ts: i64) -> Result<Option<Level<'a>>, Skip> {
        let InnerPacket { net, tunnel, must_fit } = inner;
        let ip = ip::read(net, self.options.checksum)?;
        if *must_fit && ip.length as usize > net.span.wire() {
            return Err(Skip::BadIpHeader);
        }
        match ip.fragment {
            Some(fragment) => self.fragment(net, &ip, fragment, *tunnel, ts),
            None => self.whole(net, &ip, *tunnel).map(Some),
        }
    }

    /// Decode an unfragmented datagram.
    #[inline]
    fn whole<'a>(&self, net: &Net<'a>, ip: &Ip<'a>, tunnel: Tunnel) -> Result<Level<'a>, Skip> {
        let mut packet = transport::begin(net, ip, tunnel);
        transport::read(ip, self.options.checksum, &mut packet)?;
        let inner = self.inner(ip, &packet);
        Ok(Level { packet, inner, first: None, completed: None })
    }

    /// Decode one fragment of a datagram; None before the datagram's first fragment.
    #[inline(never)]
    fn fragment<'a>(
        &mut self,
        net: &Net<'a>,
        ip: &Ip<'a>,
        fragment: Fragment,
        tunnel: Tunnel,
        ts: i64,
    ) -> Result<Option<Level<'a>>, Skip> {
        let mut packet = transport::begin(net, ip, tunnel);
        let key = Key::new(&packet, fragment.id);
        if fragment.offset > 0 {
            let (known, completed) =
                self.fragments.insert_later(key, fragment, ip.payload.wire() as u32, &mut packet, ts);
            return Ok(known.then_some(Level { packet, inner: None, first: None, completed }));
        }
        transport::read(ip, self.options.checksum, &mut packet)?;
        self.fragments.insert_first(key, &mut packet, ip.payload.wire() as u32, udp::length(ip), ts);
        let inner = self.inner(ip, &packet);
        Ok(Some(Level { packet, inner, first: Some(key), completed: None }))
    }

    #[inline]
    fn inner<'a>(&self, ip: &Ip<'a>, packet: &Packet) -> Option<InnerPacket<'a>> {
        match self.options.tunnels {
            TunnelMode::Outer => None,
            TunnelMode::Inner | TunnelMode::Both => tunnel::inner(ip, packet),
        }
    }
}
