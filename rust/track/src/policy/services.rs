//! The rules of a protocol and a service.

use super::bits::Rows;
use super::rule::Rule;

/// The rules for every protocol and service: for each protocol in a rule, ranges of ports with equal rules.
pub(super) struct Services {
    /// The index into `ranges` of each protocol; 0 for protocols in no rule.
    protocols: Vec<u16>,
    ranges: Vec<Ranges>,
    rows: Rows,
}

/// The first service of each range, sorted, and the row of the first range; the others follow.
struct Ranges {
    starts: Vec<u16>,
    first: u32,
}

impl Services {
    pub(super) fn new(rules: &[&Rule]) -> Self {
        let mut protocols = vec![0; 256];
        let mut rows = Rows::new(rules.len());
        let mut ranges = vec![Ranges::of(None, rules, &mut rows)];
        for rule in rules {
            if let Some(proto) = rule.proto
                && protocols[usize::from(proto)] == 0
            {
                protocols[usize::from(proto)] = ranges.len() as u16;
                ranges.push(Ranges::of(Some(proto), rules, &mut rows));
            }
        }
        Self { protocols, ranges, rows }
    }

    /// The rules of this service.
    #[inline]
    pub(super) fn row(&self, proto: u8, service: u16) -> &[u64] {
        let ranges = &self.ranges[usize::from(self.protocols[usize::from(proto)])];
        let range = ranges.starts.partition_point(|start| *start <= service);
        self.rows.get(ranges.first + range as u32 - 1)
    }
}

impl Ranges {
    fn of(proto: Option<u8>, rules: &[&Rule], rows: &mut Rows) -> Self {
        let own = rules.iter().zip(0..).filter(|(rule, _)| rule.proto.is_none() || rule.proto == proto);
        let mut starts = vec![0];
        for (rule, _) in own.clone() {
            starts.extend(rule.services.iter().flat_map(|(first, last)| [Some(*first), last.checked_add(1)]).flatten());
        }
        starts.sort_unstable();
        starts.dedup();
        let mut numbers = starts.iter().map(|start| {
            let speaks = |rule: &Rule| {
                rule.services.is_empty() || rule.services.iter().any(|(first, last)| (first..=last).contains(&start))
            };
            let row = rows.row(own.clone().filter(|(rule, _)| speaks(rule)).map(|(_, number)| number));
            rows.push(&row)
        });
        let first = numbers.next().unwrap_or_default();
        numbers.for_each(drop);
        Self { starts, first }
    }
}
