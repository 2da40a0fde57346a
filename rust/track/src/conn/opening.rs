//! The shortcut of new connections. A SYN and its answer, the first datagrams of UDP, ICMP echo, and the protocols that
//! a gateway tracks by the IP header alone.

use crate::config::Timeout;
use crate::connection::{Evidence, READ_UDP, take_claim};
use crate::direction;
use crate::flow::descriptor::{Arrival, kind};
use crate::flow::{Descriptor, Side, Tags};
use crate::proto::tcp::choose_timeout;
use crate::proto::{self, Offer, State, TcpClass};
use conntrack_decode::{Tcp, tcpflag};

use super::closing::Progress;
use super::hot::{Image, LATEST, Limits, Shared, path};
use super::letters::{self, code};
use super::whole::REFUSED_TIMEOUT;
use super::{Flags, kind_of};

/// The record of a connection that begins with this packet; None where the packet takes the slow path. `id`: the
/// connection's number.
pub fn begin(arrival: &Arrival<'_>, id: u64, limits: &Limits) -> Option<Image> {
    let one = arrival.descriptor;
    let (at, side) = (one.side() as usize, one.side());
    // Tags outside of the key are the first packet's, and stay with the whole connection.
    if one.ts > LATEST || arrival.decoded.is_some_and(|packet| Tags::of(packet) != arrival.key().tags()) {
        return None;
    }
    let mut hot = Image { start: one.ts as u64, id: u32::try_from(id).ok()?, ..Image::default() };
    (hot.packets[at], hot.ip_bytes[at]) = (1, one.ip_bytes.into());
    if !one.is(kind::UDP | kind::STATELESS) {
        return begin_tcp(hot, arrival, limits);
    }
    if one.is(kind::ECHO) && !asks(arrival) {
        return None;
    }
    let mut flags = if one.is(kind::UDP) { Flags::UDP } else { Flags::STATELESS };
    flags.set(Flags::TO_GROUP, one.is(kind::GROUP));
    flags.set_timeout(if one.is(kind::UDP) { Timeout::Udp } else { proto::linger(arrival.key().proto, false) });
    flags.set_roles(side, side);
    flags.set_evidence(if one.is(kind::ECHO) { Evidence::IcmpRequest } else { Evidence::FirstPacket });
    hot.first[at] = one.payload_bytes.into();
    hot.path = path::READY;
    if one.is(kind::UDP) {
        hot.letters = letters::with(0, code::DATA, at) << 16;
        hot.path |= path::NOTED[at][1];
    }
    hot.flags = flags.0;
    if one.is(kind::UDP) {
        read_claim(&mut hot, arrival);
    }
    Some(hot)
}

/// Test for an echo request.
fn asks(arrival: &Arrival<'_>) -> bool {
    let (key, side) = (arrival.key(), arrival.descriptor.side());
    (side == Side::A) == key.a_asks
}

/// Apply the originator that the payload of a datagram names.
fn read_claim(hot: &mut Image, arrival: &Arrival<'_>) {
    let (one, mut flags) = (arrival.descriptor, hot.flags());
    let worth_reading = one.payload_bytes > 0 && !one.is(kind::GROUP) && flags.evidence() <= Evidence::Payload;
    if worth_reading && let Some(named) = direction::payload_originator(arrival) {
        let mut claims = hot.next.map(|claims| claims as u8);
        let (orig, evidence) = take_claim(&mut claims, named, flags.opener());
        hot.next = claims.map(u32::from);
        flags.set_roles(flags.opener(), orig);
        flags.set_evidence(evidence);
        hot.flags = flags.0;
    }
}

/// The record of a TCP connection that begins with this SYN.
fn begin_tcp(mut hot: Image, arrival: &Arrival<'_>, limits: &Limits) -> Option<Image> {
    let one = arrival.descriptor;
    let (at, side) = (one.side() as usize, one.side());
    if kind_of(one.flags) != tcpflag::SYN || one.payload_bytes > 0 || one.window == 0 || one.seq == u32::MAX {
        return None;
    }
    let mut flags = Flags::TCP;
    flags.set_roles(side, side);
    flags.set_step(State::SynSent, (0, TcpClass::Syn, 0));
    flags.set_timeout(choose_timeout((0, false, 0), State::SynSent, TcpClass::Syn, &limits.rules));
    flags.set(Flags::of(side, Flags::SEEN), true);
    take_offer(&mut flags, side, &arrival.tcp());
    hot.flags = flags.0;
    hot.letters = letters::with(0, code::SYN, at) << 16;
    (hot.first[at], hot.next[at], hot.acked[at]) = (one.seq, one.seq + 1, one.seq);
    // The peer may send as much as the window allows, from number 0 on until its first packet.
    (hot.max_end[at], hot.max_end[1 - at], hot.max_win[at]) = (one.seq + 1, one.window.into(), one.window.into());
    Some(hot)
}

/// Note the options that a SYN of this side offers.
fn take_offer(flags: &mut Flags, side: Side, segment: &Tcp) {
    let offer = Offer::of(segment).unwrap_or_default();
    flags.set(Flags::of(side, Flags::OFFERS_SCALE), offer.scale.is_some());
    flags.set(Flags::of(side, Flags::SACK_PERMITTED), offer.sack_permitted);
    flags.set_scale(side, offer.scale.unwrap_or_default());
}

/// Process the answer to a lone SYN: a SYN+ACK that accepts, or an RST that refuses. False: another packet, and nothing
/// was changed.
#[inline(never)]
pub fn answer(hot: &Shared, arrival: &Arrival<'_>, limits: &Limits) -> bool {
    const SYN_ACK: u8 = tcpflag::SYN | tcpflag::ACK;
    const RST_ACK: u8 = tcpflag::RST | tcpflag::ACK;
    let (one, flags) = (arrival.descriptor, Flags(hot.flags.get()));
    let (side, opener) = (one.side(), one.side().other());
    let (at, q) = (side as usize, opener as usize);
    let is_lone = flags.state() == State::SynSent
        && flags.last().1 == TcpClass::Syn
        && side != flags.opener()
        && !flags.side_has(side, Flags::SEEN)
        && !flags.has(Flags::SEEN_REPLY | Flags::REFUSED);
    let (next, is_plain) = (hot.next[q].get(), one.payload_bytes == 0 && one.edge == one.ack);
    let Some(progress) = Progress::of(hot, one).filter(|_| is_lone && is_plain && one.ack == next && one.ack != 0)
    else {
        return false;
    };
    match kind_of(one.flags) {
        SYN_ACK if one.window > 0 && one.seq < u32::MAX => {
            let segment = arrival.tcp();
            if segment.sack.is_some() {
                return false;
            }
            accept(hot, one, (flags, &segment), limits);
        }
        RST_ACK => refuse(hot, one, flags),
        _ => return false,
    }
    progress.write(hot, hot.length.get() as u16, 0);
    hot.acked[at].set(hot.first[at].get());
    true
}

fn accept(hot: &Shared, one: &Descriptor, (mut flags, segment): (Flags, &Tcp), limits: &Limits) {
    let side = one.side();
    let (at, q, window) = (side as usize, 1 - side as usize, u32::from(one.window));
    take_offer(&mut flags, side, segment);
    if !Side::BOTH.into_iter().all(|side| flags.side_has(side, Flags::OFFERS_SCALE)) {
        flags.set_scale(Side::A, 0);
        flags.set_scale(Side::B, 0);
    }
    flags.set(Flags::of(side, Flags::ACK_SET | Flags::SEEN) | Flags::SEEN_REPLY, true);
    let acks = (flags.last().2, false, hot.length.get() as u16);
    flags.set_step(State::SynRecv, (1, TcpClass::SynAck, flags.last().2));
    flags.set_timeout(choose_timeout(acks, State::SynRecv, TcpClass::SynAck, &limits.rules));
    hot.flags.set(flags.0);
    hot.note(code::SYN_ACK, at);
    hot.first[at].set(one.seq);
    hot.next[at].set(one.seq + 1);
    hot.acked[q].set(one.ack);
    hot.max_end[at].set(one.seq + 1);
    hot.max_end[q].set(one.ack.wrapping_add(window));
    hot.max_win[at].set(window);
}

/// Delete the gateway's entry; only the seen reply remains.
fn refuse(hot: &Shared, one: &Descriptor, flags: Flags) {
    let (side, opener) = (one.side(), one.side().other());
    let (at, q) = (side as usize, opener as usize);
    let mut gone = Flags::TCP;
    gone.set_roles(flags.opener(), flags.orig());
    gone.set(Flags::REFUSED | Flags::SEEN_REPLY | Flags::REPORTED | Flags::of(opener, Flags::SEEN), true);
    gone.set(Flags::of(side, Flags::SEEN | Flags::CLOSED | Flags::ENDED), true);
    gone.set_timeout(REFUSED_TIMEOUT);
    hot.flags.set(gone.0);
    hot.note(code::RST, at);
    hot.letters.set(hot.letters.get() & !0xffff);
    hot.length.set(hot.length.get() & !0xffff);
    hot.first[at].set(one.seq.wrapping_sub(1));
    hot.next[at].set(one.seq);
    for cells in [&hot.max_end, &hot.max_win, &hot.last] {
        cells[at].set(0);
        cells[q].set(0);
    }
}

/// Process a datagram of a UDP exchange whose payloads are no longer read. None: another packet, or the connection may
/// be over, and nothing was changed. Returns the changed bits of the flag word.
#[inline]
pub fn exchange(hot: &Shared, one: &Descriptor, limits: &Limits) -> Option<u64> {
    let (at, flags) = (one.side() as usize, Flags(hot.flags.get()));
    let is_read = hot.packets[0].get().wrapping_add(hot.packets[1].get()) >= READ_UDP as u32;
    let is_quiet = is_read || hot.path.get() & path::COLD != 0 || one.payload_bytes == 0;
    let is_ordinary = flags.kind() == Flags::UDP && hot.path.get() & path::NOTED[at][1] != 0 && !one.is(kind::GROUP);
    if !is_ordinary || !is_quiet {
        return None;
    }
    let progress = Progress::of(hot, one)?;
    let idle = progress.age - (hot.length.get() >> 16);
    let payload = hot.first[at].get().checked_add(one.payload_bytes.into())?;
    if idle >= limits.nanos[flags.timeout_number()] as u64 {
        return None;
    }
    let after = step(flags, one, progress.age, limits);
    hot.flags.set(after.0);
    progress.write(hot, 0, hot.cold.get());
    hot.first[at].set(payload);
    Some(after.0 ^ flags.0)
}

/// The flag word after an accepted datagram, `age` nanoseconds after the first packet.
#[inline]
fn step(mut flags: Flags, one: &Descriptor, age: u64, limits: &Limits) -> Flags {
    let dir = flags.dir(one.side());
    if flags.kind() == Flags::UDP {
        let (timeout, assured) = proto::udp_step(flags.status(), dir, age as i64, &limits.rules);
        flags.set_timeout(timeout);
        flags.set(Flags::ASSURED, assured);
    }
    flags.set(Flags::SEEN_REPLY, flags.has(Flags::SEEN_REPLY) || dir == proto::CtDir::Reply);
    let to_group = one.is(kind::GROUP) && one.side() == flags.opener();
    flags.set(Flags::TO_GROUP, flags.has(Flags::TO_GROUP) || to_group);
    flags
}

/// Process a packet of a live UDP or stateless connection that is [`path::READY`]; false: the packet takes the slow
/// path, and nothing was changed.
#[inline]
pub fn datagram(hot: &Shared, one: &Descriptor, arrival: &Arrival<'_>, limits: &Limits) -> bool {
    let (at, bits, flags) = (one.side() as usize, hot.path.get(), Flags(hot.flags.get()));
    let is_udp = flags.kind() == Flags::UDP;
    let noted = !is_udp || bits & path::NOTED[at][1] != 0;
    let payload = hot.first[at].get().checked_add(one.payload_bytes.into());
    let (Some(progress), Some(payload)) = (Progress::of(hot, one), payload) else { return false };
    let is_cold = bits & path::COLD != 0;
    let sent = u64::from(hot.packets[0].get()) + u64::from(hot.packets[1].get()) + 1;
    let reads = is_udp && !is_cold && one.payload_bytes > 0 && sent <= READ_UDP;
    if !noted && is_cold {
        return false;
    }
    hot.flags.set(step(flags, one, progress.age, limits).0);
    progress.write(hot, 0, hot.cold.get());
    hot.first[at].set(payload);
    if !noted {
        hot.note(code::DATA, at);
        hot.path.set(bits | path::NOTED[at][1]);
    }
    if reads {
        let mut image = hot.image();
        read_claim(&mut image, arrival);
        hot.store(&image);
    }
    true
}
