//! The kind of a log, from the first bytes of its content; never from the name of the file.

use crate::binary::Messages;
use crate::json::{self, DocumentReader};
use crate::kind::Kind;
use crate::text::{LineReader, aws, conntrack, zeek};

/// The caller's knowledge of a log.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kind; None: to be guessed from the content of each file.
    pub kind: Option<Kind>,
    /// The fields of a custom format of AWS.
    pub fields: Option<Vec<String>>,
}

/// The reader of a file.
pub enum Format {
    /// A record a line.
    Lines(Box<dyn LineReader>),
    /// JSON documents.
    Documents(Box<dyn DocumentReader>),
    /// Binary messages.
    Messages(Box<Messages>),
}

/// The kind of a file and its reader; otherwise what was tried, and why it was not.
pub fn format(head: &[u8], options: &Options) -> Result<(Kind, Format), String> {
    let bytes = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if bytes.trim_ascii().is_empty() {
        // A time without traffic leaves an empty file.
        let kind = options.kind.unwrap_or(Kind::Conntrack);
        return Ok((kind, Format::Lines(Box::new(conntrack::Conntrack::default()))));
    }
    if let Some(kind) = options.kind {
        let format = of_kind(kind, bytes, options);
        return format.map(|format| (kind, format)).map_err(|reason| format!("not of kind {}: {reason}", kind.name()));
    }
    if options.fields.is_some() {
        return of_kind(Kind::Aws, bytes, options).map(|format| (Kind::Aws, format));
    }
    let mut tried = Vec::new();
    for kind in Kind::ALL {
        match of_kind(kind, bytes, options) {
            Ok(format) => return Ok((kind, format)),
            Err(reason) => tried.push(format!("{} ({reason})", kind.name())),
        }
    }
    Err(format!("no flow log that is known here; tried {}; name it with kind (--kind)", tried.join(", ")))
}

/// The first line that is neither empty nor cut off.
fn first_line(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty()).unwrap_or_default()
}

fn of_kind(kind: Kind, head: &[u8], options: &Options) -> Result<Format, String> {
    let line = first_line(head);
    let is_json = matches!(head.trim_ascii_start().first(), Some(b'{' | b'['));
    let document = |kind: Kind| {
        if !is_json {
            return Err("no JSON".to_owned());
        }
        json::reader(kind, head).map(Format::Documents)
    };
    match kind {
        Kind::Aws if is_json => Err("JSON, expected text or Parquet".to_owned()),
        Kind::Aws => aws::reader(line, options.fields.as_deref(), options.kind.is_some())
            .map(|reader| Format::Lines(Box::new(reader))),
        Kind::Zeek if line.starts_with(b"#") => {
            zeek::looks_like(head).map(|()| Format::Lines(Box::new(zeek::Zeek::default()))).map_err(str::to_owned)
        }
        Kind::Zeek if !is_json => Err("no #separator or #fields in the first line, and no JSON".to_owned()),
        Kind::Azure | Kind::Gcp | Kind::Zeek | Kind::Suricata => document(kind),
        Kind::Netflow => Messages::of(head).map(|messages| Format::Messages(Box::new(messages))),
        Kind::Conntrack => {
            let line =
                head.split(|byte| *byte == b'\n').find(|line| !line.starts_with(b"conntrack v") && !line.is_empty());
            conntrack::looks_like(line.unwrap_or_default())
                .map(|()| Format::Lines(Box::new(conntrack::Conntrack::default())))
                .map_err(str::to_owned)
        }
    }
}
