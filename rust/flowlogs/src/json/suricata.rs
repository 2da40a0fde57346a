//! EVE of Suricata: the events `flow` (both directions) and `netflow` (one).
//!
//! Source: Suricata's manual, "Eve JSON Format". The source of a flow event is the client as Suricata sees it. Bytes are
//! those of frames, with the header of the link.

use std::borrow::Cow;

use serde::Deserialize;

use conntrack_core::connection::{EndReason, Evidence};
use conntrack_core::decode::{FiveTuple, Vlan, ipproto};
use conntrack_core::flow::icmp;

use super::document::{DocumentReader, Scalar};
use crate::fields::{address, is_icmp, protocol, tuple};
use crate::record::{Counts, Flow, Says, Whole, letters, tcp};
use crate::sink::Sink;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "event_type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    src_ip: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dest_ip: Option<Cow<'a, str>>,
    src_port: Option<u16>,
    dest_port: Option<u16>,
    #[serde(borrow)]
    proto: Option<Cow<'a, str>>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    #[serde(borrow)]
    in_iface: Option<Cow<'a, str>>,
    vlan: Option<Vec<u16>>,
    #[serde(borrow)]
    flow: Option<Sums<'a>>,
    #[serde(borrow)]
    netflow: Option<Sums<'a>>,
    #[serde(borrow)]
    tcp: Option<Tcp<'a>>,
}

#[derive(Deserialize)]
struct Sums<'a> {
    pkts_toserver: Option<u64>,
    pkts_toclient: Option<u64>,
    bytes_toserver: Option<u64>,
    bytes_toclient: Option<u64>,
    pkts: Option<u64>,
    bytes: Option<u64>,
    #[serde(borrow)]
    start: Option<Scalar<'a>>,
    #[serde(borrow)]
    end: Option<Scalar<'a>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tcp<'a> {
    #[serde(borrow, rename = "tcp_flags")]
    all: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "tcp_flags_ts")]
    to_server: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "tcp_flags_tc")]
    to_client: Option<Cow<'a, str>>,
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
}

/// The reader.
pub struct Suricata;

impl DocumentReader for Suricata {
    fn document(&mut self, document: &[u8], sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let event: Event<'_> = serde_json::from_slice(document).map_err(|_| "suricata: no event of EVE")?;
        let kind = event.kind.as_deref().unwrap_or_default();
        let sums = match kind {
            "flow" => event.flow.as_ref(),
            "netflow" => event.netflow.as_ref(),
            _ => {
                sink.account.other += 1;
                return Ok(());
            }
        };
        let sums = sums.ok_or("suricata: an event without its counts")?;
        let tuple = five_tuple(&event)?;
        let time = |time: &Option<Scalar<'_>>| time.as_ref().and_then(Scalar::time);
        let start = time(&sums.start).ok_or("suricata: no start")?;
        let end = time(&sums.end).unwrap_or(start);
        let observer = event.in_iface.as_deref().map_or(0, |name| sink.observer(name.as_bytes()));
        if kind == "netflow" {
            let flags = event.tcp.as_ref().and_then(|tcp| hex(tcp.all.as_ref()));
            let counts = sums.pkts.zip(sums.bytes).map(|(packets, bytes)| Counts { packets, bytes });
            sink.flow(&Flow {
                tuple,
                typed: event.icmp_type.is_some(),
                start,
                end,
                sent: [Some(counts.unwrap_or_default()), None],
                counted: counts.is_some(),
                flags: [flags, None],
                blended: true,
                says: Says::Nothing,
                refused: None,
                observer,
                sampled: None,
            });
        } else {
            sink.whole(Whole { observer, ..flow(&event, sums, tuple, (start, end)) });
        }
        Ok(())
    }
}

fn five_tuple(event: &Event<'_>) -> Result<FiveTuple, &'static str> {
    let addr = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(|text| address(text.as_bytes()));
    let src = addr(&event.src_ip).ok_or("suricata: no source address")?;
    let dst = addr(&event.dest_ip).ok_or("suricata: no destination address")?;
    let name = event.proto.as_deref().unwrap_or_default();
    let proto = protocol(name.as_bytes()).ok_or("suricata: a protocol without a number")?;
    let ports = if is_icmp(proto) {
        (event.icmp_type.unwrap_or(0).into(), event.icmp_code.unwrap_or(0).into())
    } else {
        (event.src_port.unwrap_or(0), event.dest_port.unwrap_or(0))
    };
    tuple(src, dst, ports, proto).ok_or("suricata: addresses of two families")
}

fn hex(text: Option<&Cow<'_, str>>) -> Option<u8> {
    u8::from_str_radix(text?, 16).ok()
}

fn flow(event: &Event<'_>, sums: &Sums<'_>, mut tuple: FiveTuple, (start, end): (i64, i64)) -> Whole {
    let side = |packets: Option<u64>, bytes: Option<u64>| Some(Counts { packets: packets?, bytes: bytes? });
    let sent = [side(sums.pkts_toserver, sums.bytes_toserver), side(sums.pkts_toclient, sums.bytes_toclient)];
    let tcp_event = event.tcp.as_ref();
    let flags = [
        tcp_event.and_then(|tcp| hex(tcp.to_server.as_ref())).unwrap_or(0),
        tcp_event.and_then(|tcp| hex(tcp.to_client.as_ref())).unwrap_or(0),
    ];
    let asks = is_icmp(tuple.proto) && icmp::is_request(tuple.proto, tuple.sport as u8);
    if asks {
        tuple.dport = icmp::answer_to(tuple.proto, tuple.sport as u8).into();
    }
    let evidence = match tuple.proto {
        ipproto::TCP if flags[0] & tcp::SYN != 0 => Evidence::Syn,
        ipproto::TCP if flags[1] & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK => Evidence::SynAck,
        _ if asks => Evidence::IcmpRequest,
        _ => Evidence::Logged,
    };
    let answered = flags[1] & (tcp::SYN | tcp::FIN) == 0 && flags[1] & tcp::RST != 0;
    let is_refused = flags[0] & tcp::SYN != 0 && answered;
    let end_reason = match (tcp_event.and_then(|tcp| tcp.state.as_deref()), sums.reason.as_deref()) {
        _ if (flags[0] | flags[1]) & tcp::RST != 0 => Some(EndReason::Reset),
        (Some("closed" | "time_wait"), _) => Some(EndReason::Closed),
        (_, Some("timeout")) => Some(EndReason::Timeout),
        (_, Some("shutdown")) => Some(EndReason::EndOfCapture),
        (_, Some("forced")) => Some(EndReason::Evicted),
        _ => None,
    };
    let mut text = Vec::new();
    for (letter, set) in [
        (b'S', flags[0] & tcp::SYN),
        (b'h', flags[1] & tcp::SYN),
        (b'F', flags[0] & tcp::FIN),
        (b'f', flags[1] & tcp::FIN),
        (b'r', flags[1] & tcp::RST),
    ] {
        if set != 0 {
            text.push(letter);
        }
    }
    let tag = |at: usize| event.vlan.as_ref().and_then(|tags| tags.get(at)).map_or(0, |vid| (vid & 0xfff) + 1);
    Whole {
        sent,
        letters: letters(&text),
        end_reason,
        refused: is_refused.then_some(1),
        vlan: Vlan { outer: tag(0), inner: tag(1) },
        ..Whole::new(tuple, start, end, evidence)
    }
}
