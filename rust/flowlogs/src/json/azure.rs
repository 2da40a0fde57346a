//! Flow logs of Azure: of network security groups (version 1 and 2) and of virtual networks (version 4).
//!
//! Source: learn.microsoft.com, "Flow logging for network security groups" and "Virtual network flow logs". The source of
//! a tuple is the originator. States are B (begin), C (continued), E (end) and D (denied); the counts of C and E are
//! those since the last update.

use serde::Deserialize;

use super::document::DocumentReader;
use crate::fields::{address, by_digits, is_icmp, number, protocol, small, tuple};
use crate::record::{Counts, Flow, Refused, Says};
use crate::sink::Sink;

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "macAddress")]
    mac: Option<String>,
    properties: Option<Flows>,
    #[serde(rename = "flowRecords")]
    records: Option<Flows>,
    /// A whole file in one document.
    #[serde(rename = "records")]
    all: Option<Vec<Record>>,
}

#[derive(Deserialize)]
struct Flows {
    flows: Option<Vec<Rules>>,
}

#[derive(Deserialize)]
struct Rules {
    #[serde(alias = "flowGroups")]
    flows: Option<Vec<Tuples>>,
}

#[derive(Deserialize)]
struct Tuples {
    mac: Option<String>,
    #[serde(rename = "flowTuples")]
    tuples: Option<Vec<String>>,
}

/// The reader.
pub struct Azure;

impl DocumentReader for Azure {
    fn document(&mut self, document: &[u8], sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let record: Record = serde_json::from_slice(document).map_err(|_| "azure: no record of a flow log")?;
        // The records are the tuples.
        sink.account.records -= 1;
        for one in record.all.iter().flatten() {
            tuples(one, sink);
        }
        tuples(&record, sink);
        Ok(())
    }
}

fn tuples(record: &Record, sink: &mut Sink<'_>) {
    let flows = record.properties.iter().chain(&record.records).filter_map(|flows| flows.flows.as_ref()).flatten();
    for group in flows.filter_map(|rules| rules.flows.as_ref()).flatten() {
        let mac = group.mac.as_ref().or(record.mac.as_ref()).map_or("", String::as_str);
        let observer = sink.observer(mac.as_bytes());
        for text in group.tuples.iter().flatten() {
            sink.account.records += 1;
            match flow(text.as_bytes(), observer) {
                Ok(flow) => sink.flow(&flow),
                Err(reason) => sink.bad(reason, text.as_bytes()),
            }
        }
    }
}

fn flow(text: &[u8], observer: u32) -> Result<Flow, &'static str> {
    let cells: Vec<&[u8]> = text.split(|byte| *byte == b',').collect();
    if !matches!(cells.len(), 8 | 13) {
        return Err("azure: a tuple of neither 8 nor 13 fields");
    }
    let at = number(cells[0]).and_then(by_digits).ok_or("azure: no time")?;
    let src = address(cells[1]).ok_or("azure: no source address")?;
    let dst = address(cells[2]).ok_or("azure: no destination address")?;
    let port = |cell: &[u8]| if cell.is_empty() { Some(0) } else { small::<u16>(cell) };
    let ports =
        (port(cells[3]).ok_or("azure: a port that is none")?, port(cells[4]).ok_or("azure: a port that is none")?);
    let proto = match cells[5] {
        b"T" => 6,
        b"U" => 17,
        text => protocol(text).ok_or("azure: a protocol without a number")?,
    };
    // Version 4 has one word for state and decision.
    let is_v4 =
        cells.len() == 13 && matches!(cells[7], b"B" | b"C" | b"E" | b"D") && !matches!(cells[8], b"B" | b"C" | b"E");
    let denied = cells[7] == b"D";
    let state = if is_v4 || cells.len() == 8 { cells[7] } else { cells[8] };
    let counts = |at: usize| Some(Counts { packets: number(cells.get(at)?)?, bytes: number(cells.get(at + 1)?)? });
    let sent = [counts(9), counts(11)];
    let refused = denied.then_some(if cells[6] == b"I" { Refused::Receiver } else { Refused::Sender });
    let begins = denied || state == b"B";
    let mut tuple = tuple(src, dst, ports, proto).ok_or("azure: addresses of two families")?;
    if is_icmp(proto) {
        (tuple.sport, tuple.dport) = (0, 0);
    }
    // A begin counts nothing, whether as zeros or without a number.
    let is_counted = sent.iter().flatten().any(|sent| sent.packets > 0);
    Ok(Flow {
        tuple,
        typed: false,
        start: at,
        end: at,
        sent: [Some(sent[0].unwrap_or_default()), sent[1]],
        counted: is_counted,
        flags: [None, None],
        blended: false,
        says: if begins { Says::Began } else { Says::Source },
        refused,
        observer,
        sampled: None,
    })
}
