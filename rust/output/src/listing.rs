//! The gateway's entries as `conntrack -L -o extended` lists them, with `nf_conntrack_acct` on.
//!
//! One line for each entry alive at the end of the capture; its timeout is counted from the last packet.

use std::fmt::Write as _;

use crate::rows::{Live, Row};
use conntrack_decode::{Family, ipproto};
use conntrack_track::proto::State;

/// The line of a row, without a line feed; None where no entry is alive.
pub fn line(row: Row<'_>) -> Option<String> {
    let live = row.live()?;
    let (l3, l3_number) = match row.family() {
        Family::V4 => ("ipv4", 2),
        Family::V6 => ("ipv6", 10),
    };
    let mut line = format!("{l3:<8} {l3_number} {:<8} {} {} ", name(row.proto()), row.proto(), live.seconds);
    if matches!(row.proto(), ipproto::TCP | ipproto::SCTP) {
        let _ = write!(line, "{} ", State::NAMES[row.state() as usize]);
    }
    let (from, to) = if live.swapped { (1, 0) } else { (0, 1) };
    let original = tuple(row, &live, from, to);
    let reply = tuple(row, &live, to, from);
    let counters = live.counted.map(|(packets, bytes)| format!("packets={packets} bytes={bytes} "));
    let unreplied = if row.has_seen_reply() { "" } else { "[UNREPLIED] " };
    let assured = if row.is_assured() { "[ASSURED] " } else { "" };
    let _ = write!(line, "{original}{}{unreplied}{reply}{}{assured}mark=0 use=1", counters[0], counters[1]);
    Some(line)
}

/// Name of a protocol in the conntrack tool.
fn name(proto: u8) -> &'static str {
    match proto {
        ipproto::TCP => "tcp",
        ipproto::UDP => "udp",
        ipproto::UDPLITE => "udplite",
        ipproto::ICMP => "icmp",
        ipproto::ICMPV6 => "icmpv6",
        ipproto::SCTP => "sctp",
        ipproto::GRE => "gre",
        _ => "unknown",
    }
}

/// The tuple of one direction, with a trailing space.
fn tuple(row: Row<'_>, live: &Live, from: usize, to: usize) -> String {
    let mut text = format!("src={} dst={} ", row.ip(from), row.ip(to));
    let _ = match row.proto() {
        ipproto::TCP | ipproto::UDP | ipproto::UDPLITE | ipproto::SCTP => {
            write!(text, "sport={} dport={} ", row.port(from), row.port(to))
        }
        // The port of an end is the type that it sends.
        ipproto::ICMP | ipproto::ICMPV6 => {
            write!(text, "type={} code={} id={} ", row.port(from), live.code, live.id)
        }
        ipproto::GRE => {
            let keys = if (from == 0) == live.swapped { (live.id, 0) } else { (0, live.id) };
            write!(text, "srckey=0x{:x} dstkey=0x{:x} ", keys.0, keys.1)
        }
        _ => Ok(()),
    };
    text
}

#[cfg(test)]
mod tests {
    use crate::rows::Finished;
    use conntrack_base::time::SECOND;
    use conntrack_decode::{Addr, FiveTuple, L4, Packet, Tcp, tcpflag};
    use conntrack_track::config::Config;
    use conntrack_track::tracker::Tracker;

    use super::*;

    fn packet(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, proto: u8, l4: L4, bytes: u32) -> Packet {
        let tuple = FiveTuple { src: Addr::v4(src), dst: Addr::v4(dst), sport, dport, proto, family: Family::V4 };
        Packet { tuple, packets: 1, ip_bytes: bytes, datagram_bytes: bytes, complete: true, l4, ..Packet::default() }
    }

    /// The listing after these packets, a second apart.
    fn listing(packets: &[Packet]) -> Vec<String> {
        let config = Config::default();
        let (mut tracker, mut rows) = (
            Tracker::new(&config),
            Finished::new(std::sync::Arc::new(conntrack_track::direction::Locality::new(&config))),
        );
        for (packet, ts) in packets.iter().zip(0..) {
            tracker.advance(ts * SECOND, |_| ());
            tracker.record(std::slice::from_ref(packet), &[], ts * SECOND, |_| ());
        }
        tracker.finish(|closed| rows.insert(closed));
        rows.in_order().iter().filter_map(line).collect()
    }

    const A: [u8; 4] = [10, 1, 0, 1];
    const B: [u8; 4] = [10, 2, 0, 2];

    #[test]
    fn as_the_tool_prints_them() {
        let tcp = |flags, seq, ack| L4::Tcp(Tcp { flags, seq, ack, window: 1000, ..Tcp::default() });
        let syn = packet(A, B, 1000, 80, 6, tcp(tcpflag::SYN, 1, 0), 40);
        assert_eq!(
            listing(&[syn]),
            ["ipv4     2 tcp      6 120 SYN_SENT src=10.1.0.1 dst=10.2.0.2 sport=1000 dport=80 packets=1 bytes=40 \
              [UNREPLIED] src=10.2.0.2 dst=10.1.0.1 sport=80 dport=1000 packets=0 bytes=0 mark=0 use=1"]
        );
        let syn_ack = packet(B, A, 80, 1000, 6, tcp(tcpflag::SYN | tcpflag::ACK, 7, 2), 40);
        let ack = packet(A, B, 1000, 80, 6, tcp(tcpflag::ACK, 2, 8), 40);
        assert_eq!(
            listing(&[syn, syn_ack, ack]),
            [
                "ipv4     2 tcp      6 432000 ESTABLISHED src=10.1.0.1 dst=10.2.0.2 sport=1000 dport=80 packets=2 bytes=80 \
              src=10.2.0.2 dst=10.1.0.1 sport=80 dport=1000 packets=1 bytes=40 [ASSURED] mark=0 use=1"
            ]
        );
        let echo = |src, dst, kind| Packet {
            flow_id: 7,
            ..packet(src, dst, kind, 0, 1, L4::Icmp { kind: kind as u8, code: 0, id: 7 }, 32)
        };
        assert_eq!(
            listing(&[echo(A, B, 8), echo(B, A, 0)]),
            ["ipv4     2 icmp     1 30 src=10.1.0.1 dst=10.2.0.2 type=8 code=0 id=7 packets=1 bytes=32 \
              src=10.2.0.2 dst=10.1.0.1 type=0 code=0 id=7 packets=1 bytes=32 mark=0 use=1"]
        );
        let esp = packet(A, B, 0, 0, 50, L4::Other, 60);
        assert_eq!(
            listing(&[esp]),
            ["ipv4     2 unknown  50 600 src=10.1.0.1 dst=10.2.0.2 packets=1 bytes=60 \
              [UNREPLIED] src=10.2.0.2 dst=10.1.0.1 packets=0 bytes=0 mark=0 use=1"]
        );
    }

    #[test]
    fn the_original_direction_is_the_gateways() {
        let tcp = |flags, seq, ack| L4::Tcp(Tcp { flags, seq, ack, window: 1000, ..Tcp::default() });
        // A SYN+ACK names A as the originator; the gateway picks up B's ACK, and B is original.
        let syn_ack = packet(B, A, 80, 1000, 6, tcp(tcpflag::SYN | tcpflag::ACK, 7, 2), 40);
        let ack = packet(B, A, 80, 1000, 6, tcp(tcpflag::ACK, 8, 2), 40);
        let [line] = &listing(&[syn_ack, ack])[..] else { panic!("one entry") };
        assert!(line.contains("ESTABLISHED src=10.2.0.2 dst=10.1.0.1 sport=80 dport=1000 packets=1 "), "{line}");
    }

    #[test]
    fn what_has_no_entry_has_no_line() {
        let tcp = L4::Tcp(Tcp { flags: tcpflag::FIN | tcpflag::ACK, ..Tcp::default() });
        assert!(listing(&[packet(A, B, 1000, 80, 6, tcp, 40)]).is_empty());
    }
}
