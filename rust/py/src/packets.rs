//! Tables of packets: columns of NumPy or Arrow into batches, and batches into columns.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, RecordBatch as Table, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array,
};
use arrow_schema::ArrowError;
use conntrack_core::capture::{Lacks, RecordBatch};
use conntrack_core::decode::{Addr, Family, FiveTuple, Flat, Vlan, flat, tcpflag};
use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::buffer::Buffer;

/// Bytes of a TCP header without options.
const TCP_HEADER: u32 = 20;
/// Unknown options: all bytes are "end of options".
const OPTIONS: [u8; 40] = [0; 40];

/// Bytes of all packets, and their offsets (one more than packets).
struct Pieces {
    data: Vec<u8>,
    offsets: Vec<i64>,
}

impl Pieces {
    /// Bytes of a packet; empty for invalid offsets.
    fn at(&self, place: usize) -> &[u8] {
        let offset = |place: usize| self.offsets.get(place).and_then(|offset| usize::try_from(*offset).ok());
        let range = offset(place).zip(offset(place + 1));
        range.and_then(|(start, end)| self.data.get(start..end)).unwrap_or_default()
    }
}

/// Addresses: IPv4 as numbers, or sixteen bytes each.
enum Addresses {
    V4(Vec<u32>),
    Mapped(Vec<u8>),
}

impl Addresses {
    fn take(columns: &Bound<'_, PyDict>, name: &str) -> PyResult<Self> {
        let values = columns.get_item(name)?.ok_or_else(|| missing(name))?;
        if let Ok(numbers) = values.extract::<PyBuffer<u32>>() {
            return Ok(Self::V4(numbers.to_vec(values.py())?));
        }
        Ok(Self::Mapped(values.extract::<PyBuffer<u8>>()?.to_vec(values.py())?))
    }

    /// The address of a packet: IPv4, and IPv6 where it is one.
    fn at(&self, place: usize) -> (Option<Addr>, Addr) {
        match self {
            Self::V4(numbers) => {
                let addr = Addr(numbers.get(place).copied().unwrap_or_default().into());
                (Some(addr), addr)
            }
            Self::Mapped(bytes) => {
                let bytes = *bytes.as_chunks().0.get(place).unwrap_or(&[0; 16]);
                (flat::unmapped(bytes), Addr::v6(bytes))
            }
        }
    }

    fn are_v4(&self) -> bool {
        matches!(self, Self::V4(_))
    }
}

fn missing(name: &str) -> PyErr {
    PyValueError::new_err(format!("{name}: found none, expected one for each packet"))
}

/// The columns of a table of packets.
struct Columns {
    timestamp: Vec<i64>,
    ip_version: Option<Vec<u8>>,
    src: Addresses,
    dst: Addresses,
    sport: Option<Vec<u16>>,
    dport: Option<Vec<u16>>,
    proto: Option<Vec<u8>>,
    length: Option<Vec<u32>>,
    ip_header_length: Option<Vec<u32>>,
    ip_id: Option<Vec<u32>>,
    fragment_offset: Option<Vec<u16>>,
    more_fragments: Option<Vec<u8>>,
    vlan: Option<Vec<u16>>,
    inner_vlan: Option<Vec<u16>>,
    to_group: Option<Vec<u8>>,
    tcp_flags: Option<Vec<u8>>,
    seq: Option<Vec<u32>>,
    ack: Option<Vec<u32>>,
    window: Option<Vec<u16>>,
    tcp_options: Option<Pieces>,
    udp_length: Option<Vec<u16>>,
    icmp_id: Option<Vec<u16>>,
    sctp_vtag: Option<Vec<u32>>,
    payload: Option<Pieces>,
}

fn take<T: Element + Copy>(columns: &Bound<'_, PyDict>, name: &str) -> PyResult<Option<Vec<T>>> {
    let Some(values) = columns.get_item(name)? else { return Ok(None) };
    values.extract::<PyBuffer<T>>()?.to_vec(values.py()).map(Some)
}

fn take_pieces(columns: &Bound<'_, PyDict>, name: &str) -> PyResult<Option<Pieces>> {
    let Some(values) = columns.get_item(name)? else { return Ok(None) };
    let (data, offsets) = values.extract::<(PyBuffer<u8>, PyBuffer<i64>)>()?;
    Ok(Some(Pieces { data: data.to_vec(values.py())?, offsets: offsets.to_vec(values.py())? }))
}

fn at<T: Copy + Default>(column: Option<&Vec<T>>, place: usize) -> T {
    column.and_then(|values| values.get(place)).copied().unwrap_or_default()
}

impl Columns {
    fn take(columns: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self {
            timestamp: take(columns, "timestamp")?.ok_or_else(|| missing("timestamp"))?,
            ip_version: take(columns, "ip_version")?,
            src: Addresses::take(columns, "src")?,
            dst: Addresses::take(columns, "dst")?,
            sport: take(columns, "sport")?,
            dport: take(columns, "dport")?,
            proto: take(columns, "proto")?,
            length: take(columns, "length")?,
            ip_header_length: take(columns, "ip_header_length")?,
            ip_id: take(columns, "ip_id")?,
            fragment_offset: take(columns, "fragment_offset")?,
            more_fragments: take(columns, "more_fragments")?,
            vlan: take(columns, "vlan")?,
            inner_vlan: take(columns, "inner_vlan")?,
            to_group: take(columns, "to_group")?,
            tcp_flags: take(columns, "tcp_flags")?,
            seq: take(columns, "seq")?,
            ack: take(columns, "ack")?,
            window: take(columns, "window")?,
            tcp_options: take_pieces(columns, "tcp_options")?,
            udp_length: take(columns, "udp_length")?,
            icmp_id: take(columns, "icmp_id")?,
            sctp_vtag: take(columns, "sctp_vtag")?,
            payload: take_pieces(columns, "payload")?,
        })
    }

    /// Family and addresses of a packet; None for a row without an IP packet.
    fn ends(&self, place: usize) -> Result<Option<(Family, Addr, Addr)>, String> {
        let ((src4, src6), (dst4, dst6)) = (self.src.at(place), self.dst.at(place));
        let version = self.ip_version.as_ref().map(|versions| versions.get(place).copied().unwrap_or_default());
        let v6 = Some((Family::V6, src6, dst6));
        match (version, src4, dst4) {
            (Some(0), ..) => Ok(None),
            (None | Some(4), Some(src), Some(dst)) => Ok(Some((Family::V4, src, dst))),
            (None, None, None) => Ok(v6),
            (Some(6), ..) if !self.src.are_v4() && !self.dst.are_v4() => Ok(v6),
            (None, ..) => Err(format!("src and dst: found IPv4 and IPv6 in packet {place}, expected two of a kind")),
            (Some(version @ (4 | 6)), ..) => {
                Err(format!("ip_version: found {version} in packet {place}, expected that of its addresses"))
            }
            (Some(version), ..) => Err(format!(
                "ip_version: found {version} in packet {place}, expected 4, 6, or 0 for what is no IP packet"
            )),
        }
    }

    fn flat(&self, place: usize, ends: Option<(Family, Addr, Addr)>) -> Flat<'_> {
        let Some((family, src, dst)) = ends else { return Flat::default() };
        let number = |column: &Option<Vec<u16>>| at(column.as_ref(), place);
        let tuple = FiveTuple {
            src,
            dst,
            sport: number(&self.sport),
            dport: number(&self.dport),
            proto: at(self.proto.as_ref(), place),
            family,
        };
        let length = at(self.length.as_ref(), place);
        let fragment_offset = number(&self.fragment_offset);
        let more_fragments = at(self.more_fragments.as_ref(), place) != 0;
        let least = match family {
            Family::V4 => 20,
            Family::V6 if fragment_offset > 0 || more_fragments => 48,
            Family::V6 => 40,
        };
        let ip_header_length = self.ip_header_length.as_ref().map_or(least, |lengths| at(Some(lengths), place));
        let above = length.saturating_sub(ip_header_length);
        let tcp_flags = at(self.tcp_flags.as_ref(), place);
        let payload = self.payload.as_ref().map_or(&[][..], |pieces| pieces.at(place));
        let options = match &self.tcp_options {
            Some(pieces) => pieces.at(place),
            None if payload.is_empty() => unknown_options(tcp_flags, above),
            None => &[],
        };
        let udp_length = self.udp_length.as_ref().map_or(u16::try_from(above).unwrap_or(0), |own| at(Some(own), place));
        Flat {
            tuple: Some(tuple),
            length,
            ip_header_length,
            ip_id: at(self.ip_id.as_ref(), place),
            fragment_offset,
            more_fragments,
            // Tags hold the VID and one; 0 is none.
            vlan: Vlan { outer: tag(number(&self.vlan)), inner: tag(number(&self.inner_vlan)) },
            to_group: at(self.to_group.as_ref(), place) != 0,
            tcp_flags,
            seq: at(self.seq.as_ref(), place),
            ack: at(self.ack.as_ref(), place),
            window: number(&self.window),
            tcp_options: options,
            udp_length,
            icmp_id: number(&self.icmp_id),
            sctp_vtag: at(self.sctp_vtag.as_ref(), place),
            payload,
        }
    }
}

/// Options of a segment, where a table has no column for them. A sender sets PSH at the end of its data (RFC 9293 section
/// 3.9.1.2). So a few bytes without PSH are options: timestamps, SACK blocks, options of a SYN.
fn unknown_options(tcp_flags: u8, segment: u32) -> &'static [u8] {
    let room = segment.saturating_sub(TCP_HEADER) as usize;
    let is_header = tcp_flags & tcpflag::PSH == 0 && room.is_multiple_of(4);
    OPTIONS.get(..room).filter(|_| is_header).unwrap_or_default()
}

fn tag(vid: u16) -> u16 {
    if vid == 0 { 0 } else { vid.saturating_add(1) }
}

/// A batch of a table's columns.
pub fn batch(py: Python<'_>, columns: &Bound<'_, PyDict>, lacks: Lacks) -> PyResult<RecordBatch> {
    let columns = Columns::take(columns)?;
    py.detach(|| {
        let mut refused = None;
        let rows = columns.timestamp.iter().enumerate().map(|(place, ts)| {
            let ends = columns.ends(place).unwrap_or_else(|message| {
                refused.get_or_insert(message);
                None
            });
            (*ts, columns.flat(place, ends))
        });
        let made = flat::batch(rows);
        match (refused, made) {
            (Some(message), _) => Err(PyValueError::new_err(message)),
            (None, Ok(batch)) => Ok(RecordBatch { lacks, ..batch }),
            (None, Err((place, None))) => Err(PyValueError::new_err(format!(
                "payload: found 4 GiB in the first {place} packets, expected less in a batch; use several"
            ))),
            (None, Err((place, Some(refusal)))) => Err(PyValueError::new_err(format!(
                "{}: found {} in packet {place}, expected {}",
                refusal.field, refusal.found, refusal.expected
            ))),
        }
    })
}

/// The columns of numbers of a batch, memory by name: that of NumPy's dtypes as `_native.pyi` lists them.
pub fn numbers<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    let flats = flats(batch);
    macro_rules! column {
        ($name:literal, $type:ty, $read:expr) => {{
            let read: fn(&(i64, Flat<'_>)) -> $type = $read;
            let values: Vec<$type> = flats.iter().map(read).collect();
            columns.set_item($name, Bound::new(py, Buffer::new(values.into()))?)?;
        }};
    }
    column!("timestamp", i64, |row| row.0);
    column!("ip_version", u8, |row| row.1.tuple.map_or(0, |tuple| tuple.family as u8));
    for (name, read) in [("src", src as fn(&Flat<'_>) -> [u8; 16]), ("dst", dst)] {
        let values: Vec<u8> = flats.iter().flat_map(|row| read(&row.1)).collect();
        columns.set_item(name, Bound::new(py, Buffer::new(values.into()))?)?;
    }
    column!("sport", u16, |row| row.1.tuple.map_or(0, |tuple| tuple.sport));
    column!("dport", u16, |row| row.1.tuple.map_or(0, |tuple| tuple.dport));
    column!("proto", u8, |row| row.1.tuple.map_or(0, |tuple| tuple.proto));
    column!("length", u32, |row| row.1.length);
    column!("ip_header_length", u32, |row| row.1.ip_header_length);
    column!("ip_id", u32, |row| row.1.ip_id);
    column!("fragment_offset", u16, |row| row.1.fragment_offset);
    column!("more_fragments", u8, |row| u8::from(row.1.more_fragments));
    column!("vlan", u16, |row| row.1.vlan.outer.saturating_sub(1));
    column!("inner_vlan", u16, |row| row.1.vlan.inner.saturating_sub(1));
    column!("to_group", u8, |row| u8::from(row.1.to_group));
    column!("tcp_flags", u8, |row| row.1.tcp_flags);
    column!("udp_length", u16, |row| row.1.udp_length);
    column!("icmp_id", u16, |row| row.1.icmp_id);
    column!("sctp_vtag", u32, |row| row.1.sctp_vtag);
    if !batch.lacks.numbers {
        column!("seq", u32, |row| row.1.seq);
        column!("ack", u32, |row| row.1.ack);
        column!("window", u16, |row| row.1.window);
    }
    Ok(columns)
}

/// A column of bytes: the bytes of all packets, and the offsets, i8 each and one more than packets.
pub fn pieces(py: Python<'_>, batch: &RecordBatch, name: &str) -> PyResult<(Buffer, Buffer)> {
    let read: fn(&Flat<'_>) -> Vec<u8> = match name {
        "tcp_options" if !batch.lacks.numbers => |flat| flat.tcp_options.to_vec(),
        "payload" if !batch.lacks.payloads => |flat| flat.payload.to_vec(),
        _ => return Err(PyValueError::new_err(format!("there is no column {name} of bytes"))),
    };
    let (data, offsets) = py.detach(|| {
        let (mut data, mut offsets) = (Vec::new(), vec![0_i64]);
        for record in &batch.records {
            data.extend(read(&Flat::read(record, batch.bytes(record))));
            offsets.push(data.len() as i64);
        }
        (data, offsets)
    });
    Ok((Buffer::new(data.into()), Buffer::new(offsets.into())))
}

fn flats(batch: &RecordBatch) -> Vec<(i64, Flat<'_>)> {
    batch.records.iter().map(|record| (record.ts, Flat::read(record, batch.bytes(record)))).collect()
}

fn src(flat: &Flat<'_>) -> [u8; 16] {
    flat.tuple.map_or([0; 16], |tuple| flat::mapped(tuple.src, tuple.family))
}

fn dst(flat: &Flat<'_>) -> [u8; 16] {
    flat.tuple.map_or([0; 16], |tuple| flat::mapped(tuple.dst, tuple.family))
}

/// The columns as an Arrow table; addresses are text, and null without an IP packet.
pub fn table(batch: &RecordBatch) -> Result<Table, ArrowError> {
    let flats = flats(batch);
    let rows = || flats.iter().map(|(_, flat)| flat);
    let text = |read: fn(&FiveTuple) -> Addr| -> ArrayRef {
        let mut builder = StringBuilder::with_capacity(flats.len(), flats.len() * 14);
        rows().for_each(|flat| {
            builder.append_option(flat.tuple.as_ref().map(|tuple| read(tuple).ip(tuple.family).to_string()));
        });
        Arc::new(builder.finish())
    };
    let bytes = |read: fn(&Flat<'_>) -> Vec<u8>| -> ArrayRef {
        let mut builder = BinaryBuilder::new();
        rows().for_each(|flat| builder.append_value(read(flat)));
        Arc::new(builder.finish())
    };
    let small = |read: fn(&Flat<'_>) -> u8| -> ArrayRef { Arc::new(UInt8Array::from_iter_values(rows().map(read))) };
    let middle = |read: fn(&Flat<'_>) -> u16| -> ArrayRef { Arc::new(UInt16Array::from_iter_values(rows().map(read))) };
    let large = |read: fn(&Flat<'_>) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows().map(read))) };
    let truth = |read: fn(&Flat<'_>) -> bool| -> ArrayRef {
        Arc::new(rows().map(|flat| Some(read(flat))).collect::<BooleanArray>())
    };
    let times = TimestampNanosecondArray::from_iter_values(flats.iter().map(|row| row.0)).with_timezone("UTC");
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("timestamp", Arc::new(times), false),
        ("ip_version", small(|flat| flat.tuple.map_or(0, |tuple| tuple.family as u8)), false),
        ("src", text(|tuple| tuple.src), true),
        ("dst", text(|tuple| tuple.dst), true),
        ("sport", middle(|flat| flat.tuple.map_or(0, |tuple| tuple.sport)), false),
        ("dport", middle(|flat| flat.tuple.map_or(0, |tuple| tuple.dport)), false),
        ("proto", small(|flat| flat.tuple.map_or(0, |tuple| tuple.proto)), false),
        ("length", large(|flat| flat.length), false),
        ("ip_header_length", large(|flat| flat.ip_header_length), false),
        ("ip_id", large(|flat| flat.ip_id), false),
        ("fragment_offset", middle(|flat| flat.fragment_offset), false),
        ("more_fragments", truth(|flat| flat.more_fragments), false),
        ("vlan", middle(|flat| flat.vlan.outer.saturating_sub(1)), false),
        ("inner_vlan", middle(|flat| flat.vlan.inner.saturating_sub(1)), false),
        ("to_group", truth(|flat| flat.to_group), false),
        ("tcp_flags", small(|flat| flat.tcp_flags), false),
        ("udp_length", middle(|flat| flat.udp_length), false),
        ("icmp_id", middle(|flat| flat.icmp_id), false),
        ("sctp_vtag", large(|flat| flat.sctp_vtag), false),
    ];
    if !batch.lacks.numbers {
        columns.push(("seq", large(|flat| flat.seq), false));
        columns.push(("ack", large(|flat| flat.ack), false));
        columns.push(("window", middle(|flat| flat.window), false));
        columns.push(("tcp_options", bytes(|flat| flat.tcp_options.to_vec()), false));
    }
    if !batch.lacks.payloads {
        columns.push(("payload", bytes(|flat| flat.payload.to_vec()), false));
    }
    Table::try_from_iter_with_nullable(columns)
}
