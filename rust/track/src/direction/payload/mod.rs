//! The sender of a payload, client or server, by the first bytes of a segment or datagram.
//!
//! Only the beginnings of messages of the commonest protocols are recognised, each with its source. A message that fails
//! a fixed field, a length or a checksum of its specification names no sender: encrypted or compressed bytes seldom
//! pass. Ports are a condition only where the format is weak, or the specification demands them.
//!
//! Protocols in which either end may ask first name no sender: RTP, SIP, RTSP, syslog, and checks of ICE.

mod dns;
mod iot;
mod manage;
mod media;
mod message;
mod quic;
mod text;
mod tls;
mod vpn;

use conntrack_decode::ipproto;

pub(super) use manage::is_tftp_request;

use message::agreeing;
pub(super) use message::{Message, Speaker};

/// UDP ports of DNS and its relatives: DNS, NetBIOS names, multicast DNS, LLMNR.
fn is_dns(port: u16) -> bool {
    matches!(port, 53 | 137 | 5353 | 5355)
}

/// Ports at which the TLS client accepts the TCP connection: FTP's active data (RFC 4217 section 7), NETCONF and
/// RESTCONF call home (RFC 8071).
fn is_turned(port: u16) -> bool {
    matches!(port, 20 | 989 | 4334..=4336)
}

/// Services over DTLS; between other ports either end of a call (WebRTC) may begin the handshake.
fn is_dtls(port: u16) -> bool {
    matches!(port, 443 | 853 | 2083 | 3391 | 4433 | 4740 | 5246 | 5349 | 5684 | 6514 | 8443)
}

/// The sender of a payload with this beginning.
pub(super) fn speaker(proto: u8, message: &Message<'_>) -> Option<Speaker> {
    match proto {
        ipproto::TCP => of_segment(message),
        ipproto::UDP => of_datagram(message),
        _ => None,
    }
}

fn of_segment(message: &Message<'_>) -> Option<Speaker> {
    let Message { ports, bytes, whole, .. } = *message;
    if message.has_port(is_turned) {
        return None;
    }
    text::http(bytes)
        .or_else(|| tls::tls(bytes))
        .or_else(|| tls::ssh(bytes))
        .or_else(|| if whole { text::line(ports, bytes) } else { None })
        .or_else(|| agreeing(ports, |port| port == 53, || dns::dns_over_tcp(bytes, whole)))
        .or_else(|| agreeing(ports, iot::is_dnp3, || iot::dnp3(message, false)))
}

/// The readers for a datagram, by its first byte and its ports.
fn of_datagram(message: &Message<'_>) -> Option<Speaker> {
    let Message { ports, bytes, whole, .. } = *message;
    let by_format = match bytes.first()? {
        b'A'..=b'Z' => text::http(bytes).or_else(|| iot::coap(message)),
        0x00..=0x2f => vpn::wireguard(message).or_else(|| media::stun(message)).or_else(|| manage::radius(message)),
        0x30 => manage::snmp(message),
        0x40..=0x7f => iot::coap(message),
        0x81 => iot::bacnet(message),
        0xc0.. => quic::quic(message),
        _ => None,
    };
    by_format
        .or_else(|| agreeing(ports, is_dns, || dns::dns(bytes, whole)))
        .or_else(|| agreeing(ports, |port| port == 123, || manage::ntp(message)))
        .or_else(|| agreeing(ports, |port| port == 67, || manage::bootp(message)))
        .or_else(|| agreeing(ports, |port| port == 69, || manage::tftp(message)))
        .or_else(|| agreeing(ports, is_dtls, || tls::dtls(message)))
        .or_else(|| agreeing(ports, iot::is_dnp3, || iot::dnp3(message, true)))
        .or_else(|| vpn::ike(message))
}

#[cfg(test)]
mod tests;
