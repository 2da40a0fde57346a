//! The whole run on one thread, with the features by which a connection is known on the other side of a gateway.

use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_decode::{self as decode, L4, TunnelKind, ipproto};
use conntrack_track::config::{Bounds, Config};
use conntrack_track::flow::descriptor::kind;
use conntrack_track::tracker::{Keys, Label, Tracker};

use crate::nat::{Seen, Sketch};

use super::following::{TrackOutput, TrackStage};
use super::reading::{Batch, DecodeStage};
use super::{Observe, RunOutput, finish, read_on, with_restarts};

/// Tracks captures, with the features of every row.
pub fn sketched(
    captures: &mut Captures,
    config: &Config,
    observe: Observe<'_>,
) -> Result<(RunOutput, Sketch), CaptureError> {
    with_restarts(captures, |captures| {
        let keys = Keys::new(config);
        let mut reading = DecodeStage::new(config, keys.clone());
        let mut following = TrackStage::new(Tracker::with_keys(config, keys), config.bounds != Bounds::default());
        let mut sketch = Sketch::default();
        read_on(captures, &mut reading, &mut *observe, |batch| {
            let note = |_: &Tracker, label: &Label, batch: &Batch<'_>, at: usize| note(&mut sketch, label, batch, at);
            following.take(batch, &mut { note });
        })?;
        following.finish();
        let tracked = finish(captures, config, reading, TrackOutput { labels: None, ..following.output() })?;
        sketch.settle(&tracked.rows);
        Ok((tracked, sketch))
    })
}

/// Adds the outermost packet of a record to the features of its connection.
fn note(sketch: &mut Sketch, label: &Label, batch: &Batch<'_>, at: usize) {
    let (Some(connection), one) = (label.connection, &batch.decoded.descriptors[at]) else { return };
    let packet = if one.is(kind::OTHER) {
        let Some(packet) = batch.packets(at).first() else { return };
        *packet
    } else {
        batch.arrival(at).packet()
    };
    // The label of an error is that of the connection it speaks of.
    if packet.packets == 0 || packet.to_group || matches!(packet.l4, L4::IcmpError { .. }) {
        return;
    }
    let frame = batch.frame(at);
    let is_icmp = matches!(packet.tuple.proto, ipproto::ICMP | ipproto::ICMPV6);
    let echo = (is_icmp && packet.tunnel.kind == TunnelKind::None).then(|| decode::query(&batch.records[at], frame));
    let seen = Seen { ts: one.ts, side: label.side, packet: &packet, frame, echo: echo.flatten() };
    sketch.take(connection, &seen);
}
