//! Damaged logs of every kind, with overflow checks: they are read, counted or refused.

use std::io::Cursor;
use std::ops::ControlFlow;

use conntrack_core::capture::Input;
use conntrack_core::config::Config;
use conntrack_flowlogs::{Kind, Options, read};
use proptest::prelude::*;

const AWS: &str = "srcaddr dstaddr srcport dstport protocol packets bytes start end action tcp-flags\n\
    10.0.0.1 10.0.0.2 40000 443 6 10 900 1700000000 1700000050 ACCEPT 3\n\
    10.0.0.2 10.0.0.1 443 40000 6 10 900 1700000000 1700000050 REJECT 19\n";
const AZURE: &str = r#"{"records":[{"macAddress":"0","flowRecords":{"flows":[{"flowGroups":[{"flowTuples":[
    "1663146003599,10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0",
    "1663146013599,10.0.0.6,192.0.2.180,23956,443,6,O,E,NX,9,900,8,800"]}]}]}}]}"#;
const GCP: &str = r#"{"jsonPayload":{"connection":{"src_ip":"10.0.0.1","dest_ip":"10.0.0.2","src_port":1,"dest_port":2,
    "protocol":6},"bytes_sent":"9","packets_sent":"9","reporter":"SRC","start_time":"2023-11-14T22:13:20.5Z"}}"#;
const ZEEK: &str = "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\thistory\n\
    1700000000.1\t10.0.0.1\t1\t10.0.0.2\t2\ttcp\t1.5\tShADadFf\n";
const EVE: &str = r#"{"event_type":"netflow","src_ip":"10.0.0.1","dest_ip":"10.0.0.2","src_port":1,"dest_port":2,"proto":"TCP",
    "netflow":{"pkts":1,"bytes":2,"start":"2023-11-14T22:13:20.1+0000","end":1700000000.5},"tcp":{"tcp_flags":"1b"}}"#;
const CONNTRACK: &str = "[1700000000.1]\t[NEW] ipv4 2 tcp 6 120 SYN_SENT src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 \
    packets=1 bytes=60 [UNREPLIED] src=10.0.0.2 dst=10.0.0.9 sport=2 dport=1 delta-time=9 id=1\n";

/// An IPFIX message: a template, and two records.
fn ipfix() -> Vec<u8> {
    let fields: [(u16, u16); 8] = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (2, 8), (1, 8), (152, 8)];
    let mut sets = Vec::new();
    sets.extend([0, 2, 0, 4 + 4 + 4 * 8, 1, 0, 0, 8]);
    sets.extend(fields.iter().flat_map(|(element, octets)| [element.to_be_bytes(), octets.to_be_bytes()].concat()));
    let record: Vec<u8> = (0..29).chain(1_700_000_000_000_u64.to_be_bytes()).collect();
    sets.extend([1, 0, 0, 4 + 2 * 37]);
    sets.extend(record.iter().chain(&record));
    let mut message = vec![0, 10, 0, 16 + sets.len() as u8, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    message.extend(sets);
    message
}

fn sample(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Aws => AWS.into(),
        Kind::Azure => AZURE.into(),
        Kind::Gcp => GCP.into(),
        Kind::Zeek => ZEEK.into(),
        Kind::Suricata => EVE.into(),
        Kind::Netflow => ipfix(),
        Kind::Conntrack => CONNTRACK.into(),
    }
}

fn rows(data: Vec<u8>, kind: Option<Kind>) -> Option<usize> {
    let input = Input::Reader { name: "log".into(), reader: Box::new(Cursor::new(data)) };
    let options = Options { kind, fields: None };
    let read = read(vec![input], &options, &Config::default(), &mut |_| ControlFlow::Continue(()));
    read.ok().map(|output| output.rows.len())
}

#[test]
fn samples_are_read_whatever_kind_is_named() {
    for kind in Kind::ALL {
        assert!(rows(sample(kind), None).is_some_and(|rows| rows > 0), "{}", kind.name());
        for named in Kind::ALL {
            let found = rows(sample(kind), Some(named));
            assert_eq!(found.is_some_and(|rows| rows > 0), kind.name() == named.name(), "{}", kind.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn damage_is_no_fault(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, prop::collection::vec(any::<u8>(), 0..6)), 0..9),
        repeats in 1..3_usize,
        named in any::<bool>(),
    ) {
        let mut data = sample(kind).repeat(repeats);
        for (at, gone, new) in changes {
            let at = at.index(data.len().max(1)).min(data.len());
            let end = (at + gone).min(data.len());
            data.splice(at..end, new);
        }
        rows(data, named.then_some(kind));
    }

    #[test]
    fn numbers_of_any_size_are_no_fault(
        kind in prop::sample::select(vec![Kind::Aws, Kind::Azure, Kind::Zeek, Kind::Conntrack]),
        number in prop::sample::select(vec!["0", "255", "65535", "4294967296", "9223372036854775807", "18446744073709551615", "-1"]),
        at in any::<prop::sample::Index>(),
    ) {
        let text = String::from_utf8(sample(kind)).unwrap();
        let digits: Vec<(usize, &str)> = text.match_indices(|one: char| one.is_ascii_digit()).collect();
        let begin = digits[at.index(digits.len())].0;
        let end = begin + text[begin..].bytes().take_while(u8::is_ascii_digit).count();
        rows(format!("{}{number}{}", &text[..begin], &text[end..]).into_bytes(), Some(kind));
    }
}
