//! VPC flow logs of Google Cloud: a record is one direction, reported by the sender's or by the receiver's side.
//!
//! Source: cloud.google.com, "About VPC Flow Logs records". Packets are sampled, and counts are scaled up again. Both
//! sides may report one direction: each is an observer of its own.

use std::borrow::Cow;

use serde::Deserialize;

use super::document::{DocumentReader, Scalar};
use crate::fields::{address, tuple};
use crate::record::{Counts, Flow, Says};
use crate::sink::Sink;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, rename = "jsonPayload")]
    payload: Option<Payload<'a>>,
    #[serde(borrow, flatten)]
    own: Payload<'a>,
}

#[derive(Deserialize, Default)]
struct Payload<'a> {
    #[serde(borrow)]
    connection: Option<Connection<'a>>,
    #[serde(borrow)]
    reporter: Option<Cow<'a, str>>,
    #[serde(borrow)]
    bytes_sent: Option<Scalar<'a>>,
    #[serde(borrow)]
    packets_sent: Option<Scalar<'a>>,
    #[serde(borrow)]
    start_time: Option<Scalar<'a>>,
    #[serde(borrow)]
    end_time: Option<Scalar<'a>>,
    #[serde(borrow)]
    src_instance: Option<Instance<'a>>,
    #[serde(borrow)]
    dest_instance: Option<Instance<'a>>,
}

#[derive(Deserialize)]
struct Instance<'a> {
    #[serde(borrow)]
    vm_name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Connection<'a> {
    #[serde(borrow)]
    src_ip: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dest_ip: Option<Cow<'a, str>>,
    #[serde(borrow)]
    src_port: Option<Scalar<'a>>,
    #[serde(borrow)]
    dest_port: Option<Scalar<'a>>,
    #[serde(borrow)]
    protocol: Option<Scalar<'a>>,
}

/// The reader.
pub struct Gcp;

impl DocumentReader for Gcp {
    fn document(&mut self, document: &[u8], sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let entry: Entry<'_> = serde_json::from_slice(document).map_err(|_| "gcp: no log entry")?;
        let payload = entry.payload.unwrap_or(entry.own);
        let Some(connection) = &payload.connection else {
            sink.account.other += 1;
            return Ok(());
        };
        let addr = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(|text| address(text.as_bytes()));
        let src = addr(&connection.src_ip).ok_or("gcp: no source address")?;
        let dst = addr(&connection.dest_ip).ok_or("gcp: no destination address")?;
        let small = |value: &Option<Scalar<'_>>| value.as_ref().map_or(Some(0), Scalar::number);
        let port = |value| small(value).and_then(|port| u16::try_from(port).ok());
        let proto = connection.protocol.as_ref().and_then(Scalar::number).and_then(|proto| u8::try_from(proto).ok());
        let proto = proto.ok_or("gcp: no protocol number")?;
        let ports = (port(&connection.src_port), port(&connection.dest_port));
        let (Some(sport), Some(dport)) = ports else { return Err("gcp: a port that is none") };
        let tuple = tuple(src, dst, (sport, dport), proto).ok_or("gcp: addresses of two families")?;
        let time = |time: &Option<Scalar<'_>>| time.as_ref().and_then(Scalar::time);
        let start = time(&payload.start_time).ok_or("gcp: no start_time")?;
        let end = time(&payload.end_time).unwrap_or(start);
        let count = |value: &Option<Scalar<'_>>| value.as_ref().and_then(Scalar::number);
        let counts = count(&payload.packets_sent).zip(count(&payload.bytes_sent));
        let counts = counts.map(|(packets, bytes)| Counts { packets, bytes });
        let reporter = payload.reporter.as_deref().unwrap_or_default();
        let instance = if reporter.starts_with("DEST") { &payload.dest_instance } else { &payload.src_instance };
        let name = instance.as_ref().and_then(|instance| instance.vm_name.as_deref()).unwrap_or(reporter);
        let observer = sink.observer(name.as_bytes());
        sink.flow(&Flow {
            tuple,
            typed: false,
            start,
            end,
            sent: [Some(counts.unwrap_or(Counts { packets: 0, bytes: count(&payload.bytes_sent).unwrap_or(0) })), None],
            counted: counts.is_some(),
            flags: [None, None],
            blended: false,
            says: Says::Nothing,
            refused: None,
            observer,
            sampled: Some(0),
        });
        Ok(())
    }
}
