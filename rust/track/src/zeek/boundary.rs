//! Boundaries of a connection in Zeek: the close, and the packet that begins another one.
//!
//! Timers run by capture time. Zeek checks a half-closed connection every six seconds (`tcp_session_timer`) of the
//! whole capture's clock. Here the six seconds count from the connection's own beginning: results do not depend on
//! other connections. Source: `init-bare.zeek` for the values, `TCPSessionAdapter` for the rules.

use crate::config::{Timeout, Timeouts};
use crate::flow::Side;
use conntrack_base::time::SECOND;
use conntrack_decode::{L4, Packet, ipproto, tcpflag};

use super::endpoint::State;
use super::timers::{Since, Timers};
use super::{Roles, View};

/// `tcp_connection_linger`: the least quiet time of a half-closed connection, nanoseconds.
const LINGER: i64 = 5 * SECOND;
/// `tcp_SYN_timeout` and `tcp_session_timer`: the time of the first check, and the interval of the next ones,
/// nanoseconds.
const FIRST_CHECK: i64 = 5 * SECOND;
const CHECKS: i64 = 6 * SECOND;

/// `dns_session_timeout`: the interval at which Zeek's DNS analyzer checks for the end of a UDP exchange, and the least
/// quiet time by then (`DNS_Analyzer::ExpireTimer`), nanoseconds.
const DNS_CHECKS: i64 = 10 * SECOND;
const DNS_QUIET: i64 = 9 * SECOND;

impl View {
    /// Close a side, at once or when the data of a deferred close is delivered.
    pub(super) fn close(&mut self, side: Side, ts: i64) {
        let [own, peer] = [side, side.other()].map(|side| &self.ends[side as usize]);
        if own.is_pending(peer) {
            self.timers.deferred = true;
            return;
        }
        self.timers.deferred = false;
        if own.closed {
            return;
        }
        let complete = own.state == State::Reset || peer.closed || peer.state == State::Inactive;
        self.ends[side as usize].closed = true;
        if complete {
            self.timers.attempted = Since::default();
            self.timers.reported = true;
            if self.timers.run {
                self.timers.closed.begin(ts);
            }
        }
    }

    /// Note the end of a side's data.
    pub(super) fn report_end(&mut self, side: Side, ts: i64) {
        let [own, peer] = [side, side.other()].map(|side| &self.ends[side as usize]);
        let is_over = own.fin || matches!(own.state, State::Closed | State::Reset);
        if !is_over || own.is_pending(peer) || !self.ends[side as usize].stream.end() {
            return;
        }
        if self.timers.deferred {
            self.close(side, ts);
            self.timers.deferred = false;
        }
    }

    /// Capture time at which Zeek forgets the connection without another packet, nanoseconds. `start`: the connection's
    /// beginning. Zeek's timeouts are in the fields of nf_conntrack's for the corresponding situation
    /// (`Profile::Zeek`).
    pub fn deadline(&self, proto: u8, orig: Side, start: i64, timeouts: &Timeouts) -> i64 {
        let timers = &self.timers;
        let inactivity = match proto {
            ipproto::TCP if timers.established => Timeout::TcpEstablished,
            // Zeek gives a handshake `udp_inactivity_timeout`.
            ipproto::TCP | ipproto::UDP => Timeout::Udp,
            ipproto::ICMP => Timeout::Icmp,
            ipproto::ICMPV6 => Timeout::Icmpv6,
            _ => Timeout::Generic,
        };
        let mut deadline = timers.active_until.saturating_add(timeouts.get(inactivity));
        if timers.dns {
            let quiet = timers.active_until.saturating_add(DNS_QUIET).saturating_sub(start);
            let checks = quiet.saturating_add(DNS_CHECKS - 1).div_euclid(DNS_CHECKS).max(1);
            return deadline.min(start.saturating_add(checks.saturating_mul(DNS_CHECKS)));
        }
        if let Some(closed) = timers.closed.get() {
            return deadline.min(closed.saturating_add(timeouts.get(Timeout::TcpTimeWait)));
        }
        if timers.reported {
            return deadline;
        }
        let [o, r] = [orig, orig.other()].map(|side| &self.ends[side as usize]);
        if let Some(attempted) = timers.attempted.get()
            && matches!(o.state, State::SynSent | State::SynAckSent)
            && r.state == State::Inactive
        {
            deadline = deadline.min(attempted.saturating_add(timeouts.get(Timeout::TcpSynSent)));
        }
        let states = [o.state, r.state];
        let over = states.contains(&State::Reset) || states.contains(&State::Inactive) || (o.closed && r.closed);
        // Damaged packets alone make a connection without any event.
        let nothing = proto == ipproto::TCP && states == [State::Inactive; 2];
        if nothing || ((o.closed || r.closed) && over) {
            let quiet = timers.active_until.saturating_add(LINGER);
            let first = start.saturating_add(FIRST_CHECK);
            let checks = quiet.saturating_sub(first).div_euclid(CHECKS).max(-1).saturating_add(1);
            deadline = deadline.min(first.saturating_add(checks.saturating_mul(CHECKS)));
        }
        deadline
    }

    /// The view of a new connection.
    pub fn begin(ts: i64, roles: Roles) -> Self {
        let run = roles == Roles::Zeek;
        Self { timers: Timers { active_until: ts, run, ..Timers::default() }, ..Self::default() }
    }

    /// Attach Zeek's DNS analyzer to this connection over UDP.
    pub fn follow_as_dns(&mut self) {
        self.timers.dns = true;
    }

    /// Test for a TCP connection that both ends closed.
    pub fn was_closed(&self) -> bool {
        self.ends.iter().all(|end| end.state == State::Closed)
    }

    /// Test for a TCP connection that an RST ended.
    pub fn was_reset(&self) -> bool {
        self.ends.iter().any(|end| end.state == State::Reset)
    }

    /// Test whether the packet opens another connection, in any state of the old one: a SYN with another sequence
    /// number, or after a close.
    pub fn is_reuse(&self, packet: &Packet, orig: Side) -> bool {
        let L4::Tcp(segment) = packet.l4 else { return false };
        if packet.malformed || segment.flags & tcpflag::SYN == 0 {
            return false;
        }
        let [o, r] = [orig, orig.other()].map(|side| &self.ends[side as usize]);
        let has_ack = segment.flags & tcpflag::ACK != 0;
        // A SYN+ACK opens one only where the SYN was damaged.
        if has_ack && o.state != State::Inactive {
            return false;
        }
        let opener = if has_ack { r } else { o };
        if o.closed || r.closed {
            return true;
        }
        let reversed = !has_ack && opener.state == State::SynAckSent && r.state == State::Inactive;
        segment.seq != opener.start() && !(reversed && segment.seq == r.start())
    }
}
