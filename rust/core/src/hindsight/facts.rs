//! Facts of one row (acceptance, refusal, conversation), its two ends, and the range of client ports.

use conntrack_decode::ipproto;
use conntrack_output::rows::Row;
use conntrack_track::connection::Evidence;

/// Originator and responder.
pub(super) const ENDS: [usize; 2] = [0, 1];

/// Ranges of client ports by their most common uses: Linux 32768-60999, and IANA's dynamic ports, which begin at 49152.
pub(super) const FIRST_EPHEMERAL: u16 = 32_768;

/// Index of the only true element; None if both or neither are true.
pub(super) fn only(ends: [bool; 2]) -> Option<usize> {
    match ends {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

/// True where the history has one of these letters.
pub(super) fn has_any(row: Row<'_>, these: &[u8]) -> bool {
    let (letters, len) = row.history();
    letters.iter().take(usize::from(len)).any(|letter| these.contains(letter))
}

/// True where the responder accepted the connection; an RST refuses.
pub(super) fn was_accepted(row: Row<'_>) -> bool {
    match row.proto() {
        ipproto::TCP => has_any(row, b"hd"),
        _ => row.sent(1).packets > 0,
    }
}

/// True for TCP without a handshake whose only answer, or only packet, is an RST: the answer to a probe, or to a connection
/// that is gone. Nothing was offered, and nobody is known to have asked.
pub(super) fn is_refusal(row: Row<'_>) -> bool {
    const RESETS: [(&[u8], &[u8]); 2] = [(b"R", b"SHADF"), (b"r", b"shadf")];
    let only_resets = |end: usize| {
        let (reset, rest) = RESETS[end];
        let first_sender = usize::from(row.is_flipped());
        // Two taps may store the RST before the acknowledgement that it answers.
        let answers = end != first_sender || row.sent(1 - end).payload_bytes == 0;
        answers && row.sent(end).payload_bytes == 0 && has_any(row, reset) && !has_any(row, rest)
    };
    row.proto() == ipproto::TCP && row.evidence() < Evidence::Scan && ENDS.into_iter().any(only_resets)
}

/// The evidence of a row without an answer but RSTs, whatever its ports: a scan where the packets refused are a bare
/// acknowledgement (ACK scan) or FIN+ACK (Maimon scan).
pub(super) fn refused(row: Row<'_>) -> Option<Evidence> {
    let is_probe = ENDS.iter().all(|end| row.sent(*end).packets > 0 && row.sent(*end).payload_bytes == 0);
    is_refusal(row).then_some(if is_probe { Evidence::Scan } else { Evidence::Unknown })
}

/// True for data between two ends that both take part: a collector may only acknowledge. An end that sent data counts even
/// where the other direction was not captured.
pub(super) fn is_conversation(row: Row<'_>, own: usize) -> bool {
    let answers = ENDS.iter().all(|end| row.sent(*end).packets > 0) && row.sent(1 - own).payload_bytes > 0;
    row.evidence() < Evidence::Scan && !is_refusal(row) && (answers || row.sent(own).payload_bytes > 0)
}
