//! `conn.log` of Zeek as JSON.

use std::borrow::Cow;

use serde::Deserialize;

use super::document::{DocumentReader, Scalar};
use crate::sink::Sink;
use crate::text::zeek::{Fields, connection};

/// A connection.
#[derive(Deserialize)]
struct Conn<'a> {
    #[serde(borrow)]
    ts: Option<Scalar<'a>>,
    #[serde(borrow)]
    duration: Option<Scalar<'a>>,
    #[serde(borrow, rename = "id.orig_h")]
    orig_h: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "id.resp_h")]
    resp_h: Option<Cow<'a, str>>,
    #[serde(rename = "id.orig_p")]
    orig_p: Option<u64>,
    #[serde(rename = "id.resp_p")]
    resp_p: Option<u64>,
    #[serde(borrow)]
    proto: Option<Cow<'a, str>>,
    ip_proto: Option<u64>,
    orig_bytes: Option<u64>,
    resp_bytes: Option<u64>,
    orig_pkts: Option<u64>,
    resp_pkts: Option<u64>,
    orig_ip_bytes: Option<u64>,
    resp_ip_bytes: Option<u64>,
    #[serde(borrow, rename = "conn_state")]
    state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    history: Option<Cow<'a, str>>,
    vlan: Option<u64>,
    inner_vlan: Option<u64>,
}

/// The reader.
pub struct Zeek;

impl DocumentReader for Zeek {
    fn document(&mut self, document: &[u8], sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let conn: Conn<'_> = serde_json::from_slice(document).map_err(|_| "zeek: no connection of conn.log")?;
        if conn.state.is_none() && conn.proto.is_none() {
            // Another log of Zeek in the same stream.
            sink.account.other += 1;
            return Ok(());
        }
        let start = conn.ts.as_ref().and_then(Scalar::time).ok_or("zeek: no time")?;
        let lasted = conn.duration.as_ref().map_or(Some(0), Scalar::time).ok_or("zeek: a duration that is none")?;
        let text = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        let numbers = [
            conn.orig_p,
            conn.resp_p,
            conn.ip_proto,
            conn.orig_bytes,
            conn.resp_bytes,
            conn.orig_pkts,
            conn.resp_pkts,
            conn.orig_ip_bytes,
            conn.resp_ip_bytes,
            conn.vlan,
            conn.inner_vlan,
        ]
        .map(text);
        let number = |at: usize| numbers[at].as_bytes();
        let word = |word: &'_ Option<Cow<'_, str>>| word.as_deref().unwrap_or_default().as_bytes().to_vec();
        let (orig, resp, proto) = (word(&conn.orig_h), word(&conn.resp_h), word(&conn.proto));
        let (conn_state, history) = (word(&conn.state), word(&conn.history));
        let fields = Fields {
            addrs: [&orig, &resp],
            ports: [number(0), number(1)],
            proto: &proto,
            ip_proto: number(2),
            bytes: [number(3), number(4)],
            packets: [number(5), number(6)],
            ip_bytes: [number(7), number(8)],
            conn_state: &conn_state,
            history: &history,
            vlans: [number(9), number(10)],
        };
        sink.whole(connection(&fields, start, lasted)?);
        Ok(())
    }
}
