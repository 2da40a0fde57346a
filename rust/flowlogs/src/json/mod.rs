//! Logs of JSON documents: an object a line, objects in a row, an array, or `{"records": [...]}`.
//!
//! The documents are cut out by their brackets, so that a file of any size is read in pieces.

mod azure;
mod document;
mod gcp;
mod suricata;
mod zeek;

pub use document::DocumentReader;

use crate::kind::Kind;
use crate::sink::Sink;

/// The reader of documents like the first ones; otherwise what was expected.
pub fn reader(kind: Kind, head: &[u8]) -> Result<Box<dyn DocumentReader>, String> {
    let has = |key: &str| memchr::memmem::find(head, key.as_bytes()).is_some();
    let needs = |keys: &[&str]| {
        let missing: Vec<&str> = keys.iter().copied().filter(|key| !has(&format!("\"{key}\""))).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("no key {}", missing.join(", "))) }
    };
    match kind {
        Kind::Azure => needs(&["flowTuples"]).map(|()| Box::new(azure::Azure) as Box<dyn DocumentReader>),
        Kind::Gcp => needs(&["connection", "src_ip", "dest_ip"]).map(|()| Box::new(gcp::Gcp) as _),
        Kind::Suricata => needs(&["event_type", "src_ip", "dest_ip"]).map(|()| Box::new(suricata::Suricata) as _),
        Kind::Zeek => needs(&["id.orig_h", "id.resp_h"]).map(|()| Box::new(zeek::Zeek) as _),
        _ => Err("no kind of JSON".to_owned()),
    }
}

/// Hands the whole documents at the begin of `bytes` to a reader, and returns the bytes taken.
pub fn documents(bytes: &[u8], ended: bool, sink: &mut Sink<'_>, reader: &mut Box<dyn DocumentReader>) -> usize {
    let mut taken = 0;
    if sink.place == 0 {
        sink.place = 1;
    }
    loop {
        let begin = between(&bytes[taken..]);
        sink.place += lines(&bytes[taken..taken + begin]);
        taken += begin;
        let rest = &bytes[taken..];
        let Some(first) = rest.first() else { return taken };
        if *first != b'{' {
            let Some(end) = memchr::memchr2(b'\n', b'{', rest).or(ended.then_some(rest.len())) else { return taken };
            sink.account.records += 1;
            sink.bad("json: no object", &rest[..end]);
            taken += end;
            continue;
        }
        match wrapper(rest) {
            Wrapper::No => {}
            Wrapper::Yes(end) => {
                sink.place += lines(&rest[..end]);
                taken += end;
                continue;
            }
            Wrapper::Unknown if ended => {}
            Wrapper::Unknown => return taken,
        }
        let Some(end) = length(rest) else {
            if ended {
                sink.account.records += 1;
                sink.bad("json: the file ends within an object", rest);
                return bytes.len();
            }
            return taken;
        };
        let document = &rest[..end];
        sink.account.records += 1;
        if let Err(reason) = reader.document(document, sink) {
            sink.bad(reason, document);
        }
        sink.place += lines(document);
        taken += end;
    }
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Bytes between two documents: white space, separators, and what is left of arrays and their object.
fn between(bytes: &[u8]) -> usize {
    let is_between =
        |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'[' | b']' | b'}' | 0xef | 0xbb | 0xbf);
    bytes.iter().take_while(is_between).count()
}

enum Wrapper {
    No,
    /// Ends at this byte.
    Yes(usize),
    /// More bytes are needed.
    Unknown,
}

/// Test for the object around an array of records: `{"records": [`.
fn wrapper(bytes: &[u8]) -> Wrapper {
    let mut at = 0;
    for part in [&b"{"[..], b"\"records\"", b":", b"["] {
        at += bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let rest = &bytes[at..];
        if rest.len() < part.len() {
            return if part.starts_with(rest) { Wrapper::Unknown } else { Wrapper::No };
        }
        if !rest.starts_with(part) {
            return Wrapper::No;
        }
        at += part.len();
    }
    Wrapper::Yes(at)
}

/// Length of the object at the begin of `bytes`; None: it does not end here.
fn length(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => at = text_end(bytes, at + 1)?,
            _ => {}
        }
        at += 1;
    }
}

/// Place of the quote that ends a text.
fn text_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_out_by_their_brackets() {
        assert_eq!(length(br#"{"a": "}\"{", "b": [{}]} {"#), Some(24));
        assert_eq!([&b"{"[..], b"{\"", b"{\"a\\", b"{\"a\\\"}"].map(length), [None; 4]);
        assert!(matches!(wrapper(b"{ \"records\" : [ {"), Wrapper::Yes(15)));
        assert!(matches!(wrapper(b"{\"rec"), Wrapper::Unknown));
        assert!(matches!(wrapper(b"{\"ts\":1}"), Wrapper::No));
    }
}
