//! Connections as Zeek's `conn.log`, in the tab-separated format that `zeek-cut` and its friends read.
//!
//! Source: Zeek 8, `base/protocols/conn/main.zeek` for the columns and when they are unset, `Ascii.cc` for the format.
//! A log depends on the capture alone. `#open` is the start of the first connection, `#close` the time of the last packet, in
//! UTC. `uid` hashes the first connection and a connection's number ([`Seed`]). `service` is always unset: protocols are not
//! parsed.

use std::io::{self, Write};

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use crate::columns::{community_id, history_text};
use crate::rows::Row;
use crate::rows::told::lack;
use conntrack_base::time::{SECOND, timed};
use conntrack_decode::ipproto;
use conntrack_track::zeek::ConnState;

/// Every column and its type; `community_id` is the column of Zeek's policy script of that name.
const FIELDS: [(&str, &str); 23] = [
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("proto", "enum"),
    ("service", "string"),
    ("duration", "interval"),
    ("orig_bytes", "count"),
    ("resp_bytes", "count"),
    ("conn_state", "string"),
    ("local_orig", "bool"),
    ("local_resp", "bool"),
    ("missed_bytes", "count"),
    ("history", "string"),
    ("orig_pkts", "count"),
    ("orig_ip_bytes", "count"),
    ("resp_pkts", "count"),
    ("resp_ip_bytes", "count"),
    ("tunnel_parents", "set[string]"),
    ("ip_proto", "count"),
    ("community_id", "string"),
];
const UNSET: &str = "-";

/// Hash of the first written connection of a run, from which `uid`s derive, with connection numbers. So `tunnel_parents` needs
/// the parent's number alone, whether or not the parent is written yet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Seed([u8; 20]);

impl Seed {
    /// The seed of a run, from its first connection. `runs`: runs written before it to the log.
    pub fn of(row: Row<'_>, runs: u64) -> Self {
        let mut hash = Sha1::new();
        hash.update(runs.to_be_bytes());
        hash.update(row.start().to_be_bytes());
        hash.update(row.number().to_be_bytes());
        hash.update([row.proto()]);
        for end in 0..2 {
            hash.update(row.addr(end).0.to_be_bytes());
            hash.update(row.port(end).to_be_bytes());
        }
        Self(hash.finalize().into())
    }

    /// `C` and 96 bits in base 62, the form of Zeek's.
    fn uid(self, number: u64) -> String {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let hash = Sha1::new().chain_update(self.0).chain_update(number.to_be_bytes()).finalize();
        let mut value = hash.iter().take(12).fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
        let mut text = String::from("C");
        while value > 0 {
            text.push(char::from(DIGITS[(value % 62) as usize]));
            value /= 62;
        }
        text
    }
}

/// A log writer. The header is written with the first row, or at the end of an empty log.
#[derive(Default)]
pub struct Log {
    /// Capture time of the last packet so far, nanoseconds; None before the first row.
    last: Option<i64>,
}

impl Log {
    /// Writes a connection of the run of `seed`.
    pub fn append(&mut self, row: Row<'_>, seed: Seed, out: &mut impl Write) -> io::Result<()> {
        if self.last.is_none() {
            header(Some(row.start()), out)?;
        }
        self.last = self.last.max(Some(row.end()));
        write_row(row, seed, out)
    }

    /// Writes the last line.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.last.is_none() {
            header(None, out)?;
        }
        writeln!(out, "#close\t{}", date(self.last))
    }
}

fn header(first: Option<i64>, out: &mut impl Write) -> io::Result<()> {
    let line = |name: &str, words: [&str; FIELDS.len()]| format!("#{name}\t{}", words.join("\t"));
    writeln!(out, "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t{UNSET}\n#path\tconn")?;
    writeln!(out, "#open\t{}", date(first))?;
    writeln!(out, "{}", line("fields", FIELDS.map(|(name, _)| name)))?;
    writeln!(out, "{}", line("types", FIELDS.map(|(_, kind)| kind)))
}

fn write_row(row: Row<'_>, seed: Seed, out: &mut impl Write) -> io::Result<()> {
    let start = timed(row.start());
    let lasted = start.map_or(0, |start| row.active_until().saturating_sub(start).max(0));
    // Zeek gives no sizes to what lasted no time.
    let known = |text: String| if lasted > 0 { text } else { UNSET.to_owned() };
    let told = |lacks: bool, text: String| if lacks { UNSET.to_owned() } else { text };
    let size = |end: usize| told(row.end_lacks(lack::PAYLOAD, end), row.sent(end).payload_bytes.to_string());
    let [orig, resp] = [0, 1].map(|end| row.sent(end));
    let flag = |is_local: bool| if is_local { "T" } else { "F" };
    let history = history_text(row);
    let cells = [
        start.map_or_else(|| UNSET.to_owned(), seconds),
        seed.uid(row.number()),
        row.ip(0).to_string(),
        row.port(0).to_string(),
        row.ip(1).to_string(),
        row.port(1).to_string(),
        transport(row.proto()).to_owned(),
        UNSET.to_owned(),
        known(seconds(lasted)),
        known(size(0)),
        known(size(1)),
        told(row.lacks(lack::CONN_STATE), ConnState::NAMES[row.conn_state() as usize].to_owned()),
        flag(row.is_local(0)).to_owned(),
        flag(row.is_local(1)).to_owned(),
        row.missed_bytes().to_string(),
        told(row.lacks(lack::HISTORY) || history.is_empty(), history),
        orig.packets.to_string(),
        orig.ip_bytes.to_string(),
        resp.packets.to_string(),
        resp.ip_bytes.to_string(),
        row.carrier().map_or_else(|| UNSET.to_owned(), |number| seed.uid(number)),
        row.proto().to_string(),
        community_id(row),
    ];
    writeln!(out, "{}", cells.join("\t"))
}

/// A time of the header.
fn date(ts: Option<i64>) -> String {
    let date =
        DateTime::from_timestamp(ts.and_then(timed).unwrap_or_default().div_euclid(SECOND), 0).unwrap_or_default();
    date.format("%Y-%m-%d-%H-%M-%S").to_string()
}

/// Seconds with six decimals, rounded.
fn seconds(nanoseconds: i64) -> String {
    let micros = (i128::from(nanoseconds) + 500).div_euclid(1_000);
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Zeek's name of a transport protocol.
fn transport(proto: u8) -> &'static str {
    match proto {
        ipproto::TCP => "tcp",
        ipproto::UDP => "udp",
        ipproto::ICMP | ipproto::ICMPV6 => "icmp",
        _ => "unknown_transport",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_microseconds() {
        assert_eq!(seconds(1_500_000_499), "1.500000");
        assert_eq!(seconds(1_500_000_500), "1.500001");
        assert_eq!(seconds(-1_500), "-0.000001");
        assert_eq!(date(Some(1_767_225_600 * SECOND)), "2026-01-01-00-00-00");
        assert_eq!(date(None), "1970-01-01-00-00-00");
    }

    #[test]
    fn an_empty_log_has_its_header() {
        let mut log = Vec::new();
        Log::default().finish(&mut log).unwrap();
        let log = String::from_utf8(log).unwrap();
        assert!(log.starts_with("#separator \\x09\n#set_separator\t,\n"));
        assert!(log.ends_with("#close\t1970-01-01-00-00-00\n"));
        assert!(log.contains("\n#fields\tts\tuid\tid.orig_h\t"));
    }
}
