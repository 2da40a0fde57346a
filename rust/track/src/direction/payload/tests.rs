use super::Speaker::{Client, Server};
use super::*;

fn segment(ports: [u16; 2], payload: &[u8], whole: bool) -> Option<Speaker> {
    speaker(ipproto::TCP, &Message::new(ports, payload, payload.len(), whole))
}

fn datagram(ports: [u16; 2], payload: &[u8]) -> Option<Speaker> {
    speaker(ipproto::UDP, &Message::new(ports, payload, payload.len(), true))
}

fn tcp(payload: &[u8]) -> Option<Speaker> {
    segment([40_000, 50_000], payload, true)
}

/// From or to a mail server.
fn mail(ports: [u16; 2], payload: &[u8]) -> Option<Speaker> {
    segment(ports, payload, true)
}

fn udp(port: u16, payload: &[u8]) -> Option<Speaker> {
    datagram([40_000, port], payload)
}

fn from(port: u16, payload: &[u8]) -> Option<Speaker> {
    datagram([port, 40_000], payload)
}

#[test]
fn requests_and_answers() {
    assert_eq!(tcp(b"GET / HTTP/1.1\r\n"), Some(Client));
    assert_eq!(tcp(b"GET /a-long-target-that-goes-on"), Some(Client));
    assert_eq!(tcp(b"GET / HTTP/1."), Some(Client));
    assert_eq!(tcp(b"GET /old HTTP/1.1 200 in a log\r\n"), None);
    assert_eq!(tcp(b"GET rich soon\r\n"), None);
    assert_eq!(tcp(b"OPTIONS sip:100@10.0.0.5 SIP/2.0\r\n"), None, "both ends of a call ask");
    assert_eq!(mail([25, 1], b"154 <14>1 2026-01-01T00:00:00Z host\r\n"), None, "syslog");
    assert_eq!(tcp(b"HTTP/1.1 200 OK\r\n"), Some(Server));
    assert_eq!(mail([25, 40_000], b"220 mail.example ESMTP\r\n"), Some(Server));
    assert_eq!(mail([40_000, 25], b"EHLO there\r\n"), Some(Client));
    assert_eq!(mail([40_000, 25], b"250 units shipped.\r\n"), None, "in a message");
    assert_eq!(mail([110, 40_000], b"+OK\r\n"), Some(Server));
    assert_eq!(mail([25, 40_000], b"250 of them, and a line that goes on"), None);
    assert_eq!(tcp(b"220-mail.example\r\n220 ready\r\n"), Some(Server), "on any port");
    assert_eq!(tcp(b"101 076401251 of a bank's file\r\n"), None);
    assert_eq!(tcp(b"250 units shipped.\r\n.\r\n"), None);
    assert_eq!(tcp(b"205 20 17\r\n"), None, "what a sensor measured");
    assert_eq!(segment([25, 2], b"220 x\r\n", false), None);
    assert_eq!(tcp(b""), None);
}

#[test]
fn handshakes() {
    assert_eq!(tcp(&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]), Some(Client));
    assert_eq!(tcp(&[22, 3, 3, 0, 74, 2, 0, 0, 70, 3, 3]), Some(Server));
    assert_eq!(tcp(&[22, 3, 3, 0, 64, 12, 69, 61, 191, 175, 13]), None, "encrypted");
    assert_eq!(tcp(&[23, 3, 3, 0, 64, 1, 0, 0, 1, 1, 1]), None, "application data");
    assert_eq!(tcp(&[0, 0, 0, 44, 6, 30, 0, 0, 0, 32]), Some(Client));
    assert_eq!(tcp(&[0, 0, 1, 4, 6, 31, 0, 0, 0, 32]), Some(Server));
    assert_eq!(tcp(&[0, 0, 0, 44, 6, 30, 9, 200, 7, 32]), None, "encrypted behind its length");
    let hello = dtls(90, 78, 78);
    assert_eq!((udp(4433, &hello), from(4433, &hello), udp(4434, &hello)), (Some(Client), None, None));
    let fragment = dtls(50, 78, 38);
    assert_eq!(udp(4433, &fragment), Some(Client));
    for wrong in [dtls(90, 78, 79), dtls(90, 60, 78), dtls(91, 78, 78)] {
        assert_eq!(udp(4433, &wrong), None);
    }
}

#[test]
fn messages_with_a_bit_for_it() {
    let query = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
    let answer = [1, 2, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
    assert_eq!((udp(53, &query), from(53, &answer)), (Some(Client), Some(Server)));
    assert_eq!((from(53, &query), udp(53, &answer)), (None, None), "against the port");
    assert_eq!(udp(9999, &query), None, "only where DNS is spoken");
    assert_eq!(from(53, &[0x38; 40]), None, "random bytes");
    let refused = [1, 2, 0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(from(53, &refused), Some(Server));
    assert_eq!(
        (udp(123, &time(0x23, 3)), from(123, &time(0x24, 16)), udp(123, &time(0x21, 3)), udp(123, &time(0x24, 3))),
        (Some(Client), Some(Server), None, None)
    );
    assert_eq!((udp(123, &time(0x23, 17)), udp(123, &time(0x23, 3)[..47])), (None, None), "no stratum, too short");
    let lease =
        |operation: u8, flags: u8| [&[operation, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, flags], &[0; 240][..]].concat();
    assert_eq!(
        (udp(67, &lease(1, 0)), from(67, &lease(2, 0)), udp(67, &lease(1, 1))),
        (Some(Client), Some(Server), None)
    );
    assert_eq!(udp(67, &lease(1, 0)[..200]), None);
}

/// The beginning of a DTLS client's hello: lengths of the record, the message and the fragment.
fn dtls(record: u8, message: u8, fragment: u8) -> Vec<u8> {
    let header = [22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, record, 1, 0, 0, message, 0, 0, 0, 0, 0, 0, 0, fragment];
    let mut bytes = header.to_vec();
    bytes.resize(13 + usize::from(record.min(90)), 7);
    bytes
}

fn time(first: u8, stratum: u8) -> Vec<u8> {
    [&[first, stratum, 6, 0xe9], &[1; 44][..]].concat()
}

/// Both ends say the same of the two messages, on any ports.
fn pair(ports: [u16; 2], question: &[u8], answer: &[u8]) {
    let [client, server] = ports;
    assert_eq!(datagram([client, server], question), Some(Client), "{question:x?}");
    assert_eq!(datagram([server, client], answer), Some(Server), "{answer:x?}");
}

/// One byte more or less, and a byte changed at these offsets, name nobody.
fn strict(ports: [u16; 2], message: &[u8], fixed: &[usize]) {
    assert!(datagram(ports, message).is_some());
    assert_eq!(datagram(ports, &[message, &[0]].concat()), None, "longer");
    assert_eq!(datagram(ports, &message[..message.len() - 1]), None, "shorter");
    for at in fixed {
        let mut wrong = message.to_vec();
        wrong[*at] ^= 0x40;
        assert_eq!(datagram(ports, &wrong), None, "byte {at}");
    }
}

const ANY: [u16; 2] = [41_000, 51_000];

#[test]
fn wireguard_by_type_and_length() {
    let of = |kind: u8, length: usize| [vec![kind, 0, 0, 0], vec![7; length - 4]].concat();
    pair([51_820, 51_820], &of(1, 148), &of(2, 92));
    strict(ANY, &of(1, 148), &[0, 1, 2, 3]);
    assert_eq!([of(3, 64), of(4, 64), of(1, 92)].map(|one| datagram(ANY, &one)), [None; 3]);
    let cut = Message::new(ANY, &[2, 0, 0, 0], 92, false);
    assert_eq!(speaker(ipproto::UDP, &cut), Some(Server), "the length is the header's");
}

fn ike_message(responder: u8, next: u8, version: u8, exchange: u8, flags: u8, number: u8) -> Vec<u8> {
    let mut bytes = [[0x49; 8], [responder; 8]].concat();
    bytes.extend([next, version, exchange, flags, 0, 0, 0, number, 0, 0, 0, 60]);
    bytes.resize(60, 0x6b);
    bytes
}

#[test]
fn ike_by_the_flags_of_its_first_exchanges() {
    let marked = |one: &[u8]| [&[0; 4], one].concat();
    let (request, response) = (ike_message(0, 33, 0x20, 34, 8, 0), ike_message(0x52, 33, 0x20, 34, 0x20, 0));
    pair([500, 500], &request, &response);
    pair([1_024, 4_500], &marked(&request), &marked(&response));
    pair([500, 500], &ike_message(1, 46, 0x20, 35, 8, 1), &ike_message(1, 46, 0x20, 35, 0x20, 1));
    assert_eq!(datagram([500, 500], &ike_message(0, 1, 0x10, 2, 0, 0)), Some(Client), "version 1");
    strict([500, 500], &request, &[8, 16, 17, 18, 19, 23, 25, 27]);
    let undecided = [
        ike_message(1, 46, 0x20, 37, 8, 5),
        ike_message(1, 46, 0x20, 36, 0x20, 5),
        ike_message(1, 1, 0x10, 2, 0, 0),
        ike_message(1, 33, 0x20, 34, 0x28, 0),
    ];
    assert_eq!(undecided.map(|one| datagram([500, 500], &one)), [None; 4]);
    assert_eq!((datagram(ANY, &request), datagram([4_500, 4_500], &request)), (None, None));
}

fn stun_message(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((attributes.len() as u16).to_be_bytes());
    bytes.extend([0x21, 0x12, 0xa4, 0x42]);
    bytes.extend([9; 12]);
    bytes.extend(attributes);
    bytes
}

#[test]
fn stun_by_its_class() {
    let mapped = [0, 0x20, 0, 8, 0, 1, 1, 1, 1, 1, 1, 1];
    pair(ANY, &stun_message(0x0001, &[]), &stun_message(0x0101, &mapped));
    pair(ANY, &stun_message(0x0003, &[0, 6, 0, 1, b'u', 0, 0, 0]), &stun_message(0x0113, &mapped));
    pair([3_478, 3_478], &stun_message(0x0016, &mapped), &stun_message(0x0017, &mapped));
    strict(ANY, &stun_message(0x0101, &mapped), &[0, 2, 3, 4, 7, 22, 23]);
    assert_eq!(datagram(ANY, &stun_message(0x0011, &[])), None, "a Binding indication");
    // The fingerprint is CRC-32 of the bytes before.
    let mut signed = stun_message(0x0001, &[0x80, 0x28, 0, 4, 0, 0, 0, 0]);
    assert_eq!(datagram(ANY, &signed), None, "a wrong fingerprint");
    signed[24..].copy_from_slice(&0x7ef7_7ada_u32.to_be_bytes());
    assert_eq!(datagram(ANY, &signed), Some(Client));
    for of_ice in [[0, 0x24, 0, 4], [0, 6, 0, 4], [0, 8, 0, 4], [0x80, 0x29, 0, 4], [0x80, 0x2a, 0, 4]] {
        let check = [&of_ice[..], &[1; 4]].concat();
        assert_eq!(datagram(ANY, &stun_message(0x0001, &check)), None, "both peers check");
        assert_eq!(datagram(ANY, &stun_message(0x0101, &check)), None);
    }
}

/// A long header: first byte, version, connection IDs, what follows, and zeros up to a length.
fn quic_packet(first: u8, version: u32, ids: [&[u8]; 2], rest: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(version.to_be_bytes());
    for id in ids {
        bytes.push(id.len() as u8);
        bytes.extend(id);
    }
    bytes.extend(rest);
    bytes.resize(length.max(bytes.len()), 0);
    bytes
}

#[test]
fn quic_by_its_long_headers() {
    let (chosen, own) = (&[1; 8][..], &[2; 5][..]);
    let initial = |ids, rest: &[u8], length| quic_packet(0xc1, 1, ids, rest, length);
    pair(ANY, &initial([chosen, &[]], &[0, 0x44, 0x96], 1_200), &initial([&[], own], &[0, 0x44, 0x96], 1_200));
    pair(ANY, &initial([chosen, own], &[2, 7, 7, 0x44, 0x90], 1_200), &initial([chosen, own], &[0, 0x40, 0x96], 300));
    pair(
        ANY,
        &quic_packet(0xd1, 1, [chosen, own], &[0x40, 0x96], 1_200),
        &quic_packet(0xf0, 1, [own, chosen], &[5; 40], 0),
    );
    let second = 0x6b33_43cf;
    pair(
        ANY,
        &quic_packet(0xe1, second, [chosen, own], &[0x40, 0x96], 1_200),
        &quic_packet(0xc0, second, [own, chosen], &[5; 40], 0),
    );
    let versions = quic_packet(0xc0, 0, [own, chosen], &[0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf], 0);
    assert_eq!(datagram([443, 40_000], &versions), Some(Server));
    let undecided = [
        initial([chosen, own], &[0, 0x44, 0x96], 1_200),
        initial([chosen, own], &[1, 7, 0x40, 0x20], 300),
        initial([chosen, &[]], &[0, 0x7f, 0xff], 1_200),
        initial([&[1; 21], &[]], &[0, 0x44, 0x80], 1_300),
        quic_packet(0xc1, 2, [chosen, &[]], &[0, 0x44, 0x96], 1_200),
        quic_packet(0xe1, 1, [chosen, own], &[0x40, 0x96], 1_200),
        quic_packet(0xf0, 1, [own, chosen], &[5; 16], 0),
        versions[..versions.len() - 1].to_vec(),
    ];
    for one in undecided {
        assert_eq!(datagram(ANY, &one), None, "{:x?}", &one[..40.min(one.len())]);
    }
}

#[test]
fn snmp_by_its_pdu() {
    let get = [
        0x30, 27, 2, 1, 1, 4, 6, b'p', b'u', b'b', b'l', b'i', b'c', 0xa0, 14, 2, 1, 5, 2, 1, 0, 2, 1, 0, 0x30, 3,
        0x30, 1, 5,
    ];
    let with = |kind: u8, version: u8| {
        let mut bytes = get;
        (bytes[13], bytes[4]) = (kind, version);
        bytes
    };
    pair([161, 1_162], &with(0xa6, 1), &with(0xa2, 1));
    assert_eq!([0xa0, 0xa1, 0xa3, 0xa5, 0xa7].map(|kind| datagram(ANY, &with(kind, 1))), [Some(Client); 5]);
    strict(ANY, &get, &[0, 1, 2, 4, 5, 6, 14, 24, 25]);
    assert_eq!((datagram(ANY, &with(0xa5, 0)), datagram(ANY, &with(0xa9, 1))), (None, None));
    let third = |flags: u8, tag: u8| {
        let header = [2, 1, 3, 0x30, 14, 2, 1, 9, 2, 3, 1, 0, 0, 4, 1, flags, 2, 1, 3, 4, 0];
        let scoped = [&[4, 0, 4, 0], &get[13..]].concat();
        let body = [&header[..], &[tag, scoped.len() as u8], &scoped].concat();
        [&[0x30, body.len() as u8], &body[..]].concat()
    };
    assert_eq!(datagram(ANY, &third(4, 0x30)), Some(Client));
    assert_eq!([third(7, 4), third(3, 4), third(7, 0x30)].map(|one| datagram(ANY, &one)), [Some(Client), None, None]);
}

#[test]
fn radius_by_its_code() {
    let of =
        |code: u8, attributes: &[u8]| [&[code, 1, 0, 20 + attributes.len() as u8], &[9; 16][..], attributes].concat();
    let named = [1, 5, b'b', b'o', b'b'];
    for (question, answer) in [(1, 2), (1, 3), (1, 11), (4, 5), (40, 41), (43, 45)] {
        pair(ANY, &of(question, &named), &of(answer, &named));
    }
    pair([1_813, 1_813], &of(4, &named), &of(5, &[]));
    strict(ANY, &of(1, &named), &[0, 2, 3, 21]);
    assert_eq!((datagram(ANY, &of(5, &[])), datagram(ANY, &of(1, &[1, 2, 1, 3, 7]))), (None, None));
}

#[test]
fn tftp_by_its_request() {
    let request = b"\0\x01pxelinux.0\0octet\0blksize\x001468\0";
    assert_eq!((udp(69, request), from(69, request), udp(70, request)), (Some(Client), None, None));
    let wrong: [&[u8]; 5] = [
        b"\0\x01\0octet\0",
        b"\0\x01name\0other\0",
        b"\0\x01name\0octet",
        b"\0\x03name\0octet\0",
        b"\0\x01name\0octet\0blksize\0",
    ];
    assert_eq!(wrong.map(|one| udp(69, one)), [None; 5]);
}

#[test]
fn coap_by_its_code() {
    let get = [0x44, 1, 7, 7, 1, 2, 3, 4, 0xb4, b't', b'e', b's', b't'];
    let content = [0x64, 0x45, 7, 7, 1, 2, 3, 4, 0xc0, 0xff, b'2'];
    pair([40_000, 5_683], &get, &content);
    let changed = |at: usize, byte: u8| {
        let mut bytes = get;
        bytes[at] = byte;
        bytes
    };
    // Version, token's length, code, an acknowledgement that asks, option and length.
    let wrong = [(0, 0x84), (0, 0x49), (1, 0), (1, 0x25), (0, 0x64), (8, 0x24), (8, 0xb5), (8, 0xf4)];
    for (at, byte) in wrong {
        assert_eq!(udp(5_683, &changed(at, byte)), None, "{at} {byte:x}");
    }
    assert_eq!(udp(5_683, &[&get[..8], &[0xff]].concat()), None, "a marker without a payload");
    assert_eq!((from(5_683, &get), udp(5_684, &get)), (None, None));
}

#[test]
fn bacnet_by_its_apdu() {
    let of = |npdu: &[u8], apdu: &[u8]| {
        let length = (4 + npdu.len() + apdu.len()) as u8;
        [&[0x81, 0x0a, 0, length], npdu, apdu].concat()
    };
    let plain = [1, 0];
    let routed = [1, 0x28, 0, 5, 1, 9, 0, 6, 0, 0xff];
    let read = [0, 5, 1, 12, 0x0c, 0, 0, 0, 1, 0x19, 0x55];
    for npdu in [&plain[..], &routed] {
        pair([47_808, 47_808], &of(npdu, &read), &of(npdu, &[0x30, 1, 12, 0x0c]));
    }
    pair([47_808, 47_808], &of(&plain, &[0x10, 8]), &of(&plain, &[0x20, 1, 15]));
    pair([47_808, 47_808], &of(&plain, &[0x40, 1, 0, 1]), &of(&plain, &[0x71, 1, 0]));
    strict([47_808, 47_808], &of(&plain, &read), &[0, 1, 2, 3, 4, 5, 6]);
    for either in [&[0x10, 0][..], &[0, 5, 1, 1, 9], &[0x20, 1, 2]] {
        assert_eq!(datagram([47_808, 47_808], &of(&plain, either)), None, "announced or notified");
    }
    assert_eq!(datagram(ANY, &of(&plain, &read)), None);
}

#[test]
fn dnp3_by_the_direction_bit() {
    // A request of link status from 1 to 1024.
    let reset = [0x05, 0x64, 0x05, 0xc9, 0x00, 0x04, 0x01, 0x00, 0xcc, 0x90];
    let crc = |mut header: [u8; 10]| {
        let crc = iot::crc(&header[..8]).to_le_bytes();
        header[8..].copy_from_slice(&crc);
        header
    };
    assert_eq!(iot::crc(b"123456789"), 0xea82, "the check value of CRC-16/DNP");
    let reset = crc(reset);
    let of = |control: u8| crc([0x05, 0x64, 0x05, control, 1, 0, 0, 4, 0, 0]);
    pair([40_000, 20_000], &reset, &of(0x0b));
    assert_eq!(segment([40_000, 20_000], &reset, true), Some(Client));
    assert_eq!(segment([20_000, 40_000], &of(0x0b), true), Some(Server));
    let told = |function: u8| {
        let data = [0xc0, 0xc0, function];
        [&crc([0x05, 0x64, 0x08, 0x44, 1, 0, 0, 4, 0, 0])[..], &data, &iot::crc(&data).to_le_bytes()].concat()
    };
    assert_eq!([0x81, 0x82].map(|function| from(20_000, &told(function))), [Some(Server), None]);
    // A wrong checksum of the data, a datagram that lacks data, and bytes that are no frame behind the frame.
    let answer = told(0x81);
    let changed = [&answer[..14], &[answer[14] ^ 1]].concat();
    assert_eq!(
        [&changed[..], &answer[..13], &[&answer[..], &[0]].concat()].map(|bytes| from(20_000, bytes)),
        [None; 3]
    );
    assert_eq!(segment([20_000, 40_000], &answer[..13], true), Some(Server), "continued in the next segment");
    let mut wrong = reset;
    for at in 0..10 {
        wrong[at] ^= 1;
        assert_eq!(udp(20_000, &wrong), None, "byte {at}");
        wrong[at] ^= 1;
    }
    assert_eq!((from(20_000, &reset), datagram(ANY, &reset)), (None, None));
}

/// Claims of each reader on random bytes between the ports of its protocol, of a million.
#[test]
fn random_bytes_name_nobody() {
    const PAYLOADS: usize = 1_000_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let ports = [69, 123, 67, 161, 500, 4_500, 1_812, 3_478, 4_433, 5_683, 20_000, 47_808, 51_820, 443];
    let mut claims = [0_u32; 14];
    let mut payload = [0_u8; 192];
    for _ in 0..PAYLOADS {
        payload.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random().to_ne_bytes());
        let bytes = &payload[..(random() % 193) as usize];
        for (port, claims) in ports.into_iter().zip(&mut claims) {
            *claims += u32::from(udp(port, bytes).or_else(|| from(port, bytes)).is_some());
        }
    }
    for (port, claims) in ports.into_iter().zip(claims) {
        // A response of CoAP may have no option, and any payload; NTP and DHCP have few fixed bits. All three agree with
        // the port.
        let most = match port {
            5_683 => 200,
            123 | 67 => 40,
            _ => 0,
        };
        assert!(claims <= most, "{claims} at port {port}");
    }
}

/// The TLS client of FTP's active data and of call home accepts the TCP connection: a hello names neither end.
#[test]
fn handshakes_that_run_against_the_connection() {
    let hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    for port in [20, 989, 4334, 4336] {
        for ports in [[port, 40_000], [40_000, port]] {
            assert_eq!(segment(ports, &hello, true), None, "{port}");
        }
    }
    assert_eq!(segment([4337, 40_000], &hello, true), Some(Client));
}

/// A question has at least five bytes, and a record eleven.
#[test]
fn a_dns_message_has_room_for_what_its_header_counts() {
    let header = [1, 2, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let body = [0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 0];
    let message = |length: usize| [&header[..], &body[..length]].concat();
    assert_eq!(from(53, &message(5 + 11)), Some(Server));
    assert_eq!(from(53, &message(5 + 11 - 1)), None);
    let cut = message(5);
    assert_eq!(
        speaker(ipproto::UDP, &Message::new([53, 40_000], &cut, cut.len(), false)),
        Some(Server),
        "cut by the capture"
    );
}
