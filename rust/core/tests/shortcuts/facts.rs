//! All fields of a row as text, for comparison.

use std::sync::Arc;

use conntrack_core::config::Config;
use conntrack_core::direction::Locality;
use conntrack_core::rows::{Finished, Row, Rows};
use conntrack_core::tracker::Closed;

/// All fields of an end.
fn end(row: Row<'_>, at: usize) -> String {
    format!(
        "{:?} {:?} {} {:?} zone {:?} local {} window {}",
        row.addr(at),
        row.ip(at),
        row.port(at),
        row.sent(at),
        row.zone(at),
        row.is_local(at),
        row.first_window(at)
    )
}

/// All fields of a row.
fn facts(row: Row<'_>) -> String {
    let times = (row.number(), row.start(), row.end(), row.active_until(), row.missed_bytes(), row.lead());
    let kind = (row.family(), row.proto(), row.vlan(), row.reply_tags(), row.tunnel(), row.related_to(), row.carrier());
    let roles = (row.orig(), row.direction(), row.evidence(), row.confidence(), row.is_flipped());
    let states = (row.state(), row.conn_state(), row.end_reason(), row.is_assured(), row.has_seen_reply());
    let groups = (row.was_broadcast(), row.is_from_group(), row.is_error(), row.answers_unseen());
    let (letters, len) = row.history();
    let history = String::from_utf8_lossy(&letters[..usize::from(len)]).into_owned();
    let ends = [end(row, 0), end(row, 1)];
    format!("{times:?} {kind:?} {roles:?} {states:?} {groups:?} {history} {:?} {ends:?}", row.live())
}

/// Fields of all rows.
pub fn of_rows(rows: &Rows) -> Vec<String> {
    rows.iter().map(facts).collect()
}

/// Fields of the rows of closed connections.
pub fn of_closed(config: &Config, closed: &[Closed]) -> Vec<String> {
    let mut rows = Finished::new(Arc::new(Locality::new(config)));
    for closed in closed {
        rows.insert(closed);
    }
    of_rows(&rows.in_order())
}

/// Lines of the debug output that differ between two values.
pub fn differences<T: std::fmt::Debug>(quick: &T, plain: &T) -> String {
    let [quick, plain] = [quick, plain].map(|value| format!("{value:#?}"));
    let lines = quick.lines().zip(plain.lines()).filter(|(quick, plain)| quick != plain);
    let lines = lines.take(40).map(|(quick, plain)| format!("\n{} | slow: {}", quick.trim(), plain.trim()));
    format!("{} lines, slow {}:{}", quick.lines().count(), plain.lines().count(), lines.collect::<String>())
}
