use proptest::prelude::*;

use super::*;
use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, L4};

const CLIENT: [u8; 4] = [10, 0, 0, 7];
const SERVER: [u8; 4] = [192, 0, 2, 69];

/// A message between these ports, from the client if `asks`.
fn message(proto: u8, ports: [u16; 2], asks: bool, payload: &[u8]) -> Vec<Expectation> {
    let (src, dst) = if asks { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let tuple = FiveTuple {
        src: Addr::v4(src),
        dst: Addr::v4(dst),
        sport: ports[0],
        dport: ports[1],
        proto,
        family: Family::V4,
    };
    let length = payload.len() as u32;
    let packet = Packet { tuple, l4: L4::Udp, payload_bytes: length, payload: (0, length), ..Packet::default() };
    let mut found = Expectations::default();
    note(&mut found, &packet, payload, 5 * SECOND);
    found.iter().copied().collect()
}

/// Endpoints that an expectation names, with the initiator.
fn named(all: &[Expectation]) -> Vec<(Addr, u16, Option<Addr>, Initiator)> {
    all.iter().map(|one| (one.addr, one.port, one.peer, one.initiator)).collect()
}

#[test]
fn a_transfer_of_tftp() {
    let asked = message(ipproto::UDP, [3_445, 69], true, b"\0\x01pxelinux.0\0octet\0");
    assert_eq!(named(&asked), [(Addr::v4(CLIENT), 3_445, Some(Addr::v4(SERVER)), Initiator::Named)]);
    assert_eq!(asked[0].begins, [4 * SECOND, 305 * SECOND]);
    assert_eq!(asked[0].parent, [(Addr::v4(CLIENT), 3_445), (Addr::v4(SERVER), 69)]);
    assert_eq!(message(ipproto::UDP, [69, 3_445], true, b"\0\x01pxelinux.0\0octet\0"), []);
    assert_eq!(message(ipproto::UDP, [3_445, 69], true, b"\0\x03pxelinux.0\0octet\0"), []);
}

#[test]
fn a_data_connection_of_ftp() {
    let passive = message(ipproto::TCP, [21, 40_000], false, b"227 Entering Passive Mode (192,0,2,69,19,137).\r\n");
    assert_eq!(named(&passive), [(Addr::v4(SERVER), 5_001, Some(Addr::v4(CLIENT)), Initiator::Peer)]);
    let other = message(ipproto::TCP, [21, 40_000], false, b"227 Entering Passive Mode (192,0,2,70,19,137).\r\n");
    assert_eq!(other, [], "another host's address");
}

#[test]
fn direct_connections_of_irc() {
    let send = |text: &[u8]| message(ipproto::TCP, [40_000, 6_667], true, text);
    let own = u32::from_be_bytes(CLIENT);
    let text = format!(
        "PRIVMSG friend :\u{1}DCC SEND a.txt {own} 5001 900\u{1}\r\nPRIVMSG friend :\u{1}DCC CHAT chat {own} 5002\u{1}\r\n"
    );
    let ends = [5_001, 5_002].map(|port| (Addr::v4(CLIENT), port, None, Initiator::Peer));
    assert_eq!(named(&send(text.as_bytes())), ends);
    let wrong = [
        format!("PRIVMSG friend :\u{1}DCC SEND a.txt {} 5001 900\u{1}\r\n", own + 1),
        format!("PRIVMSG friend :\u{1}DCC SEND a.txt {own} 0 900\u{1}\r\n"),
        format!("PRIVMSG friend :\u{1}DCC SEND a.txt {own} 65536\u{1}\r\n"),
        format!("PRIVMSG friend :\u{1}DCC SEND a.txt {own} 5001 900\r\n"),
        format!("PRIVMSG friend :\u{1}DCC OTHER a.txt {own} 5001\u{1}\r\n"),
        format!("NOTICE friend :\u{1}DCC SEND a.txt {own} 5001\u{1}\r\n"),
        "PRIVMSG friend :\u{1}DCC SEND".into(),
    ];
    for text in wrong {
        assert_eq!(send(text.as_bytes()), [], "{text}");
    }
    assert_eq!(message(ipproto::TCP, [6_667, 40_000], false, text.as_bytes()), [], "to the server only");
}

/// A message of SIP with this start and description.
fn sip(start: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{start}\r\nCall-ID: 1\r\nCSeq: 7 INVITE\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    )
}

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0";

fn description(addr: [u8; 4], media: &str) -> String {
    let [a, b, c, d] = addr;
    format!("v=0\r\no=- 1 1 IN IP4 {a}.{b}.{c}.{d}\r\ns=-\r\nc=IN IP4 {a}.{b}.{c}.{d}\r\nt=0 0\r\n{media}")
}

#[test]
fn media_belong_to_the_sender_of_the_invite() {
    let audio = "m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
    let (client, server) = (Addr::v4(CLIENT), Addr::v4(SERVER));
    let offer = sip(INVITE, "", &description(CLIENT, audio));
    for proto in [ipproto::UDP, ipproto::TCP] {
        let found = message(proto, [5_060, 5_060], true, offer.as_bytes());
        let ends = [40_000, 40_001].map(|port| (client, port, Some(server), Initiator::Named));
        assert_eq!(named(&found), ends);
        assert!(found.iter().all(|one| one.proto == ipproto::UDP && one.parent_proto == proto));
    }
    for status in ["SIP/2.0 200 OK", "SIP/2.0 183 Session Progress"] {
        let video =
            format!("{audio}m=video 0 RTP/AVP 31\r\nm=video 50000/2 RTP/AVP 31\r\na=rtcp:50007 IN IP4 192.0.2.69\r\n");
        let answer = sip(status, "", &description(SERVER, &video));
        let found = message(ipproto::UDP, [5_060, 5_060], false, answer.as_bytes());
        let ends = [40_000, 40_001, 50_000, 50_007].map(|port| (server, port, Some(client), Initiator::Peer));
        assert_eq!(named(&found), ends);
    }
}

#[test]
fn a_description_with_a_fault_announces_nothing() {
    let audio = "m=audio 40000 RTP/AVP 0\r\n";
    let plain = description(CLIENT, audio);
    let of = |start: &str, more: &str, body: &str| {
        message(ipproto::UDP, [5_060, 5_060], true, sip(start, more, body).as_bytes())
    };
    assert_eq!(of(INVITE, "", &plain).len(), 2);
    for start in [
        "INVITE sip:bob@example.com SIP/3.0",
        "INVITE  SIP/2.0",
        "BYE sip:bob@example.com SIP/2.0",
        "SIP/2.0 486 Busy Here",
        "SIP/2.0 x",
    ] {
        assert_eq!(of(start, "", &plain), [], "{start}");
    }
    for body in [
        description(SERVER, audio),
        description(CLIENT, "m=audio 500 RTP/AVP 0\r\n"),
        description(CLIENT, "m=audio 70000 RTP/AVP 0\r\n"),
        description(CLIENT, "m=application 40000 UDP x\r\n"),
        plain.replace("c=IN IP4 10.0.0.7", "c=IN IP4 224.2.1.1/127"),
        plain.replace("c=IN IP4", "c=IN IP6"),
        plain.replace("v=0\r\n", ""),
    ] {
        assert_eq!(of(INVITE, "", &body), [], "{body}");
    }
    let whole = sip(INVITE, "", &plain);
    for wrong in [
        whole.replace("7 INVITE", "7 OPTIONS"),
        whole.replace("application/sdp", "text/plain"),
        whole[..whole.len() - 4].into(),
        whole.replace("\r\n\r\n", "\r\n"),
    ] {
        assert_eq!(message(ipproto::UDP, [5_060, 5_060], true, wrong.as_bytes()), [], "{wrong}");
    }
    let many = "m=audio 40000 RTP/AVP 0\r\n".repeat(500) + "m=audio 41000 RTP/AVP 0\r\n";
    assert_eq!(of(INVITE, "", &description(CLIENT, &many)).len(), 2, "further media are not read");
}

fn expectation(ts: i64, port: u16) -> Expectation {
    Expectation {
        ts,
        begins: [ts, ts + 9],
        proto: ipproto::TCP,
        family: Family::V4,
        addr: Addr::v4(CLIENT),
        port,
        peer: None,
        initiator: Initiator::Peer,
        parent: [(Addr::v4(CLIENT), 1), (Addr::v4(SERVER), 21)],
        parent_proto: ipproto::TCP,
        tags: Default::default(),
    }
}

proptest! {
    #[test]
    fn parts_in_any_order_make_the_whole(
        facts in prop::collection::vec((0..40_i64, 0..4_u16, any::<u8>()), 0..60),
        most in 1..30_usize,
        seed in any::<usize>(),
    ) {
        let mut whole = Expectations::bounded(most);
        for (ts, port, _) in &facts {
            whole.insert(expectation(*ts, *port));
        }
        let at_once = Expectations::of(facts.iter().map(|(ts, port, _)| expectation(*ts, *port)).collect(), most);
        prop_assert!(at_once.iter().eq(whole.iter()));
        for parts in [1, 2, 7, 16] {
            let mut some: Vec<_> = (0..parts).map(|_| Expectations::bounded(most)).collect();
            for (ts, port, part) in &facts {
                some[usize::from(*part) % parts].insert(expectation(*ts, *port));
            }
            some.rotate_left(seed % parts);
            let mut merged = Expectations::bounded(most);
            for part in some {
                merged.merge(part);
            }
            prop_assert!(merged.iter().eq(whole.iter()));
            prop_assert!(merged.iter().count() <= most);
        }
    }

    #[test]
    fn any_bytes_are_read_to_the_end(text in any::<Vec<u8>>(), ports in prop::sample::select(vec![[1, 21], [1, 69], [1, 5_060], [1, 6_667], [21, 1]])) {
        for proto in [ipproto::TCP, ipproto::UDP] {
            message(proto, ports, true, &text);
            message(proto, ports, true, &[INVITE.as_bytes(), b"\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n", &text].concat());
        }
    }
}
