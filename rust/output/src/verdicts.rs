//! Verdicts of a policy on finished connections: a row of a NumPy structured array each.

use crate::rows::Row;
use conntrack_track::flow::icmp::is_icmp;
use conntrack_track::policy::{EndDecision, Policy, Ruling};

/// Bytes of a row: `verdict` u1 at 0, padding to 4, then `egress_rule`, `ingress_rule`, `orig_group` and `resp_group`, i4
/// each; native byte order.
pub const WIDTH: usize = 20;

conntrack_base::words! {
    /// Verdict on a connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Verdict {
        /// The groups of both ends allow the connection.
        Allowed = "ALLOWED",
        /// A group of the originator has no egress rule for the connection.
        RefusedEgress = "REFUSED_EGRESS",
        /// A group of the responder has no ingress rule for the connection.
        RefusedIngress = "REFUSED_INGRESS",
        /// Refused by egress and ingress.
        RefusedBoth = "REFUSED_BOTH",
        /// An ICMP error about a known connection (ctstate RELATED), which needs no rule.
        Related = "RELATED",
        /// An ICMP error about no known connection: a gateway drops it.
        Invalid = "INVALID",
    }
}

/// Verdicts on connections, and hits of each rule.
pub struct Verdicts {
    /// Rows of [`WIDTH`] bytes.
    pub bytes: Vec<u8>,
    /// Allowed connections by rule.
    pub hits: Vec<u64>,
}

/// Evaluates a policy for every connection, as initiated by its originator.
pub fn evaluate<'a>(policy: &Policy, rows: impl ExactSizeIterator<Item = Row<'a>>) -> Verdicts {
    let mut verdicts = Verdicts { bytes: Vec::with_capacity(rows.len() * WIDTH), hits: vec![0; policy.rules()] };
    for row in rows {
        verdicts.push(policy, row);
    }
    verdicts
}

impl Verdicts {
    fn push(&mut self, policy: &Policy, row: Row<'_>) {
        let mut bytes = [0; WIDTH];
        let (verdict, numbers) = self.judge(policy, row);
        bytes[0] = verdict as u8;
        for (place, number) in bytes[4..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        self.bytes.extend_from_slice(&bytes);
    }

    fn judge(&mut self, policy: &Policy, row: Row<'_>) -> (Verdict, [i32; 4]) {
        if row.is_error() {
            let verdict = if row.related_to().is_some() { Verdict::Related } else { Verdict::Invalid };
            return (verdict, [-1; 4]);
        }
        let (ends, proto) = ([row.ip(0), row.ip(1)], row.proto());
        let service = row.port(usize::from(!is_icmp(proto)));
        let decision = policy.decide(ends, proto, service);
        let verdict = match [decision.egress, decision.ingress].map(|word| word.rule == Ruling::Refused) {
            [false, false] => Verdict::Allowed,
            [true, false] => Verdict::RefusedEgress,
            [false, true] => Verdict::RefusedIngress,
            [true, true] => Verdict::RefusedBoth,
        };
        if verdict == Verdict::Allowed {
            policy.used(ends, proto, service, |rule| self.hits[rule as usize] += 1);
        }
        let [egress, ingress] = [decision.egress, decision.ingress].map(numbers);
        (verdict, [egress.0, ingress.0, egress.1, ingress.1])
    }
}

/// The rule (-1: none was asked, -2: refused) and the group (-1: none) as NumPy has them.
fn numbers(word: EndDecision) -> (i32, i32) {
    let rule = match word.rule {
        Ruling::Free => -1,
        Ruling::By(rule) => rule as i32,
        Ruling::Refused => -2,
    };
    (rule, word.group.map_or(-1, |group| group as i32))
}
