//! Conversion between the record and the whole connection: expanded once, by the first unusual packet, then
//! synchronised.
//!
//! The record is authoritative for the fields that the shortcuts change. [`sync`] brings the whole connection up to
//! date, `ready` fills the record for the shortcuts; without a packet in between, both are the
//! identity.

use crate::config::Timeout;
use crate::connection::{Connection, Endpoint as Counts, Evidence, READ_UDP};
use crate::flow::{FlowKey, Side};
use crate::proto::tcp::choose_timeout;
use crate::proto::{Gateway, State, Status, TcpClass, TcpEnd, TcpTrack, Track};
use crate::zeek::{EndState, Endpoint, Roles, Stream, View, WITHOUT_ACKS};
use conntrack_decode::ipproto;

use super::hot::{Image, LATEST, LONGEST, Limits, path};
use super::{Flags, HALF, LARGEST_WINDOW, letters};

/// The whole connection of a record without a cold part, with this deadline.
pub fn expand(hot: &Image, key: FlowKey, deadline: i64) -> Connection {
    let flags = hot.flags();
    let (start, end) = (hot.start as i64, hot.end());
    let payload = |side: Side| match flags.kind() {
        Flags::TCP => delivered(hot, side) - 1,
        _ => u64::from(hot.first[side as usize]),
    };
    let ends = Side::BOTH.map(|side| Counts {
        packets: hot.packets[side as usize].into(),
        ip_bytes: hot.ip_bytes[side as usize].into(),
        payload_bytes: payload(side),
    });
    let opener = flags.opener();
    let mut zeek = View::begin(end.saturating_sub(hot.cold.into()), Roles::Given);
    zeek.letters = letters::expand(hot.letters >> 16);
    let mut track = Track::None;
    if flags.kind() == Flags::TCP {
        zeek.ends = Side::BOTH.map(|side| endpoint(hot, side));
        zeek.partial = flags.has(Flags::REFUSED);
        zeek.timers.established = Side::BOTH.into_iter().all(|side| flags.side_has(side, Flags::SEEN));
        zeek.timers.reported = flags.has(Flags::REPORTED);
        zeek.timers.deferred = flags.has(Flags::DEFERRED);
        track = Track::Tcp(kernel_track(hot));
    }
    let is_refused = flags.is_refused();
    Connection {
        key,
        id: hot.id.into(),
        start,
        end,
        ends,
        first: opener,
        orig: flags.orig(),
        evidence: flags.evidence(),
        vlan: key.vlan,
        tunnel: key.tunnel,
        reply_tags: None,
        gateway: (!is_refused).then(|| entry(hot, track, ends, deadline)),
        over: None,
        closed: is_refused,
        status: flags.status(),
        zeek,
        roles: Roles::Given,
        related_to: None,
        carrier: None,
        to_group: flags.has(Flags::TO_GROUP),
        is_error: false,
        first_window: [0; 2],
        claims: if flags.kind() == Flags::UDP { hot.next.map(|claims| claims as u8) } else { [0; 2] },
        deadline,
        reorder: None,
    }
}

/// The gateway's entry.
fn entry(hot: &Image, track: Track, ends: [Counts; 2], deadline: i64) -> Gateway {
    let (flags, opener) = (hot.flags(), hot.flags().opener());
    let Status { seen_reply, assured } = flags.status();
    Gateway {
        orig: opener,
        state: if flags.kind() == Flags::TCP { flags.state() } else { State::None },
        seen_reply,
        assured,
        timeout: flags.timeout(),
        created: hot.start as i64,
        deadline,
        counted: [opener, opener.other()].map(|side| ends[side as usize]).map(|sent| (sent.packets, sent.ip_bytes)),
        track,
    }
}

/// The relative number up to which all data of a side came, where all came in order.
pub fn delivered(hot: &Image, side: Side) -> u64 {
    let sent = hot.next[side as usize].wrapping_sub(hot.first[side as usize]);
    u64::from(sent.saturating_sub(u32::from(hot.flags().side_has(side, Flags::FIN))).max(1))
}

/// Zeek's states of a side, current and previous, where the side opened in order.
pub fn end_states(flags: Flags, side: Side) -> (EndState, EndState) {
    let [own, peer] = [side, side.other()].map(|side| flags.side_has(side, Flags::SEEN));
    let opens = side == flags.opener();
    match (opens, own, peer) {
        _ if flags.side_has(side, Flags::FIN) => (EndState::Closed, EndState::Established),
        (true, ..) if !peer || flags.has(Flags::REFUSED) => (EndState::SynSent, EndState::Inactive),
        (true, ..) => (EndState::Established, EndState::SynSent),
        (false, false, _) => (EndState::Inactive, EndState::Inactive),
        (false, ..) if flags.has(Flags::REFUSED) => (EndState::Reset, EndState::Inactive),
        (false, ..) => (EndState::Established, EndState::Inactive),
    }
}

fn endpoint(hot: &Image, side: Side) -> Endpoint {
    let (flags, at) = (hot.flags(), side as usize);
    let has = |fact| flags.side_has(side, fact);
    let sent = hot.next[at].wrapping_sub(hot.first[at]);
    let (fin, (state, before)) = (has(Flags::FIN), end_states(flags, side));
    let delivered = delivered(hot, side);
    let acked = u64::from(hot.acked[at].wrapping_sub(hot.first[at]));
    let trimmed = acked.min(u64::from(sent.saturating_sub(fin.into()))).max(1);
    Endpoint {
        start: hot.first[at],
        last: hot.next[at],
        acked: hot.acked[at],
        marks: [0, if fin { sent - 1 } else { 0 }, if state == EndState::Reset { sent } else { 0 }],
        fin_end: if fin { sent.into() } else { 0 },
        stream: Stream { delivered, trimmed, ended: has(Flags::ENDED), ..Stream::default() },
        state,
        before,
        fin,
        closed: has(Flags::CLOSED),
        seen: has(Flags::SEEN),
        ..Endpoint::default()
    }
}

fn kernel_track(hot: &Image) -> TcpTrack {
    let flags = hot.flags();
    let seen = |side: Side| {
        let (at, has) = (side as usize, |fact| flags.side_has(side, fact));
        TcpEnd {
            end: hot.next[at],
            max_end: hot.max_end[at],
            max_win: hot.max_win[at],
            max_ack: if has(Flags::ACK_SET) { hot.acked[1 - at] } else { 0 },
            scale: flags.scale(side),
            offers_scale: has(Flags::OFFERS_SCALE),
            sack_permitted: has(Flags::SACK_PERMITTED),
            liberal: false,
            unacked: has(Flags::UNACKED),
            ack_set: has(Flags::ACK_SET),
            close_init: has(Flags::CLOSE_INIT),
        }
    };
    let opener = flags.opener();
    let mut track = TcpTrack { ends: [seen(opener), seen(opener.other())], ..TcpTrack::default() };
    take_last(hot, &mut track);
    track
}

/// Restore the kernel's memory of the last segment.
fn take_last(hot: &Image, track: &mut TcpTrack) {
    (track.last_dir, track.last_class, track.retrans) = hot.flags().last();
    [track.last_seq, track.last_ack] = hot.last;
    track.last_end = hot.last[0].wrapping_add(u32::from(hot.letters as u16));
    track.last_win = hot.length as u16;
}

/// Bring a whole connection up to date with its record.
pub fn sync(hot: &Image, connection: &mut Connection, limits: &Limits) {
    if hot.flags().kind() == Flags::COLD || hot.packets == [0; 2] {
        return;
    }
    connection.end = hot.end();
    connection.zeek.timers.active_until = connection.end;
    for side in Side::BOTH {
        let sent = &mut connection.ends[side as usize];
        sent.packets += u64::from(hot.packets[side as usize]);
        sent.ip_bytes += u64::from(hot.ip_bytes[side as usize]);
    }
    let flags = hot.flags();
    let is_tcp = flags.kind() == Flags::TCP;
    if is_tcp {
        catch_up(connection, hot);
    } else {
        connection.ends[0].payload_bytes += u64::from(hot.first[0]);
        connection.ends[1].payload_bytes += u64::from(hot.first[1]);
        connection.to_group |= flags.has(Flags::TO_GROUP);
    }
    let Some(entry) = &mut connection.gateway else { return };
    if hot.is(path::OUT) && !hot.is(path::LAX) {
        return;
    }
    entry.timeout = flags.timeout();
    entry.deadline = connection.end.saturating_add(limits.rules.timeouts.get(entry.timeout));
    Status { seen_reply: entry.seen_reply, assured: entry.assured } = flags.status();
    (connection.deadline, connection.status) = (entry.deadline, flags.status());
    for side in Side::BOTH {
        let (at, dir) = (side as usize, usize::from(side != entry.orig));
        entry.counted[dir].0 += u64::from(hot.packets[at]);
        entry.counted[dir].1 += u64::from(hot.ip_bytes[at]);
        if let Track::Tcp(track) = &mut entry.track
            && !hot.is(path::OUT)
        {
            let seen = &mut track.ends[dir];
            (seen.end, seen.max_end, seen.max_win) = (hot.next[at], hot.max_end[at], hot.max_win[at]);
            (seen.max_ack, seen.unacked) = (hot.acked[1 - at], flags.side_has(side, Flags::UNACKED));
        }
    }
    if let Track::Tcp(track) = &mut entry.track {
        if hot.is(path::OUT) {
            (track.last_dir, track.last_class, _) = flags.last();
        } else {
            take_last(hot, track);
        }
    }
}

/// Bring sequence numbers and streams of Zeek's view up to date.
fn catch_up(connection: &mut Connection, hot: &Image) {
    let (path, next, acked) = (hot.path, hot.next, hot.acked);
    for at in 0..2 {
        let end = &mut connection.zeek.ends[at];
        if path & path::LONE == 0 || end.seen {
            connection.ends[at].payload_bytes += u64::from(next[at].wrapping_sub(end.last));
        }
        (end.last, end.acked) = (next[at], acked[at]);
        if path & path::LONE != 0 {
            lone(end, hot.first[at]);
        } else if path & path::HOLE[at] == 0 {
            end.stream.delivered = end.sent_so_far().max(1);
            end.stream.trimmed = end.acked_so_far().max(1);
        }
    }
}

/// Bring the stream of a side without a seen peer up to date, or the position of the unseen peer.
fn lone(end: &mut Endpoint, first: u32) {
    end.start = first;
    if end.seen {
        end.stream.delivered = end.sent_so_far().max(1);
        // There are no acknowledgements: Zeek does not wait beyond the first window.
        let is_much = end.stream.delivered - 1 > WITHOUT_ACKS;
        end.stream.trimmed = if is_much { end.stream.delivered } else { 1 };
    }
}

/// Write the record of a whole connection, but for the wheel's mark, the bits [`path::PLACES`] and the cold part's
/// number. The record is [`path::READY`] where every invariant of [`super`] holds.
pub fn record(connection: &Connection, limits: &Limits, hot: &mut Image) {
    *hot = Image { start: connection.start as u64, id: connection.id as u32, ..Image::default() };
    if ready(connection, limits, hot).is_none() {
        (hot.flags, hot.path) = (Flags::COLD.0, path::COLD);
        hot.freeze(connection.deadline);
    }
}

fn ready(connection: &Connection, limits: &Limits, hot: &mut Image) -> Option<()> {
    let entry = connection.gateway.as_ref()?;
    let is_tcp = connection.key.proto == ipproto::TCP;
    // The next packet may go back before the last ones: see `early`.
    let is_plain =
        connection.roles == Roles::Given && !connection.is_error && !connection.closed && !connection.awaits_syn();
    if !is_plain || connection.deadline != entry.deadline || !(is_tcp || connection.key.proto == ipproto::UDP) {
        return None;
    }
    let length = u64::try_from(connection.end.checked_sub(connection.start)?).ok()?;
    if length >= LONGEST || connection.start > LATEST || connection.id > u64::from(u32::MAX) || connection.key.is_self()
    {
        return None;
    }
    (hot.length, hot.path) = (length << 16, path::COLD | path::READY);
    let mut flags = if is_tcp { Flags::TCP } else { Flags::UDP };
    flags.set_roles(entry.orig, connection.orig);
    flags.set_timeout(entry.timeout);
    flags.set(Flags::SEEN_REPLY, entry.seen_reply);
    flags.set(Flags::ASSURED, entry.assured);
    let on_time = entry.deadline == connection.end.saturating_add(limits.rules.timeouts.get(entry.timeout));
    if is_tcp {
        ready_zeek(hot, &connection.zeek)?;
        ready_kernel(hot, &mut flags, entry, on_time)
            .or_else(|| ready_out(hot, &mut flags, connection, (on_time, limits)))?;
        if connection.evidence < Evidence::Syn {
            hot.path |= path::UNSEEN;
        }
    } else {
        let read = connection.ends.iter().map(|sent| sent.packets).sum::<u64>() >= READ_UDP;
        let began = entry.created == connection.start;
        if !on_time || !began || !(read || connection.evidence > Evidence::Payload) {
            return None;
        }
        flags.set(Flags::TO_GROUP, connection.to_group);
        flags.set_evidence(connection.evidence);
    }
    for side in Side::BOTH {
        for (bit, noted) in path::NOTED[side as usize].iter().zip(connection.zeek.letters.noted(side)) {
            hot.path |= if noted { *bit } else { 0 };
        }
    }
    hot.flags = flags.0;
    Some(())
}

/// Write the gateway's part where both views agree; None where they differ.
fn ready_kernel(hot: &mut Image, flags: &mut Flags, entry: &Gateway, on_time: bool) -> Option<()> {
    let Track::Tcp(track) = &entry.track else { return None };
    if entry.state != State::Established || !entry.seen_reply || !entry.assured || hot.is(path::LONE) || !on_time {
        return None;
    }
    let by_side = Side::BOTH.map(|side| &track.ends[usize::from(side != entry.orig)]);
    for (at, seen) in by_side.into_iter().enumerate() {
        let agrees = seen.end == hot.next[at] && seen.max_ack == hot.acked[1 - at];
        if !agrees || !seen.ack_set || seen.max_win == 0 || seen.max_win >= LARGEST_WINDOW {
            return None;
        }
    }
    for (side, seen) in Side::BOTH.into_iter().zip(by_side) {
        (hot.max_end[side as usize], hot.max_win[side as usize]) = (seen.max_end, seen.max_win);
        flags.set_scale(side, seen.scale);
        flags.set(Flags::of(side, Flags::SACK_PERMITTED), seen.sack_permitted);
        flags.set(Flags::of(side, Flags::UNACKED), seen.unacked);
    }
    let data = u16::try_from(track.last_end.wrapping_sub(track.last_seq)).ok()?;
    flags.set_step(State::Established, (track.last_dir & 1, TcpClass::Ack, track.retrans));
    hot.letters = data.into();
    hot.last = [track.last_seq, track.last_ack];
    hot.length |= u64::from(track.last_win);
    Some(())
}

/// Write the frozen gateway's part; None where an acknowledgement may change the part.
fn ready_out(
    hot: &mut Image,
    flags: &mut Flags,
    connection: &Connection,
    (on_time, limits): (bool, &Limits),
) -> Option<()> {
    let entry = connection.gateway.as_ref()?;
    let Track::Tcp(track) = &entry.track else { return None };
    let is_lone = hot.is(path::LONE);
    let by_side = Side::BOTH.map(|side| &track.ends[usize::from(side != entry.orig)]);
    hot.path |= path::OUT;
    hot.max_end = by_side.map(|seen| seen.end);
    for (side, seen) in Side::BOTH.into_iter().zip(by_side) {
        flags.set(Flags::of(side, Flags::SACK_PERMITTED), seen.sack_permitted);
        flags.set(Flags::of(side, Flags::SEEN), connection.zeek.ends[side as usize].seen);
        // An unseen window begins with the next segment.
        if seen.max_win == 0 && (!is_lone || connection.zeek.ends[side as usize].seen) {
            return None;
        }
    }
    flags.set_step(entry.state, (track.last_dir & 1, TcpClass::Ack, track.retrans));
    // In SYN_SENT, all acknowledgements of the opener are invalid.
    if entry.state == State::SynSent && is_lone && connection.zeek.ends[entry.orig as usize].seen {
        hot.freeze(connection.deadline);
        return Some(());
    }
    let liberal = limits.rules.liberal || by_side.iter().all(|seen| seen.liberal);
    if entry.state != State::Established || (!liberal && by_side.iter().any(|seen| seen.liberal)) {
        return None;
    }
    if !liberal {
        hot.freeze(connection.deadline);
        return (entry.seen_reply && entry.assured).then_some(());
    }
    hot.path |= path::LAX;
    let unacked = track.ends.iter().any(|seen| seen.unacked);
    let chosen =
        choose_timeout((track.retrans, unacked, track.last_win), State::Established, TcpClass::Ack, &limits.rules);
    let nanos = |timeout| limits.rules.timeouts.get(timeout);
    let opens = !entry.seen_reply && nanos(chosen) > nanos(Timeout::TcpUnacknowledged);
    let next = if opens { Timeout::TcpUnacknowledged } else { chosen };
    let is_settled = entry.seen_reply && entry.assured;
    let only_opener = is_lone && !entry.seen_reply && connection.zeek.ends[entry.orig as usize].seen;
    (on_time && next == entry.timeout && (is_settled || only_opener)).then_some(())
}

fn ready_zeek(hot: &mut Image, view: &View) -> Option<()> {
    for at in 0..2 {
        let (end, peer) = (&view.ends[at], &view.ends[1 - at]);
        if end.state == EndState::Inactive && (end.seen || !peer_is_waiting(end, peer)) {
            return None;
        }
        if end.state == EndState::Inactive {
            hot.path |= path::LONE | if view.answers_unseen() { path::ANSWERS } else { 0 };
            (hot.next[at], hot.acked[at], hot.first[at]) = (end.last, end.acked, end.start);
            continue;
        }
        let is_lone = peer.state == EndState::Inactive;
        let is_open = matches!(end.state, EndState::Established | EndState::Partial)
            || (end.state == EndState::SynSent && is_lone);
        if !is_open || !end.seen || end.fin || end.closed || end.stream.gave_up() {
            return None;
        }
        let (sent, acked) = (end.sent_so_far(), end.acked_so_far());
        match (end.last_wraps, end.acked_wraps) {
            (0, 0) if sent < u64::from(HALF) && acked <= sent => {}
            (1.., 1..) if acked <= sent && !is_lone => hot.path |= path::WRAPPED[at],
            _ => return None,
        }
        let behind = sent.max(1);
        let trimmed = if is_lone && behind - 1 > WITHOUT_ACKS { behind } else { acked.max(1) };
        let has_hole = end.has_hole();
        if end.stream.trimmed != trimmed || end.stream.delivered > behind || (is_lone && has_hole) {
            return None;
        }
        if has_hole {
            hot.path |= path::HOLE[at];
        }
        (hot.next[at], hot.acked[at], hot.first[at]) = (end.last, end.acked, end.start);
    }
    Some(())
}

/// Test for an unseen side whose position is the peer's last acknowledgement.
fn peer_is_waiting(end: &Endpoint, peer: &Endpoint) -> bool {
    let is_untouched =
        !end.fin && !end.closed && end.stream == Stream::default() && end.last_wraps == 0 && end.acked_wraps == 0;
    is_untouched && end.last == end.start && end.acked == end.start && peer.state != EndState::Inactive
}

/// The timeout of a refused connection; see [`crate::proto::linger`].
pub const REFUSED_TIMEOUT: Timeout = Timeout::TcpClose;
