//! Arbitrary bytes as a flow log, of a kind that the first byte names or of one that is guessed: the reading terminates, and
//! a second reading gives the same rows.
#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;

use conntrack_core::capture::Input;
use conntrack_core::config::Config;
use conntrack_flowlogs::{Kind, Options, read};
use libfuzzer_sys::fuzz_target;

fn rows(data: &[u8], kind: Option<Kind>) -> Option<(usize, u64)> {
    let input = Input::Reader { name: "fuzz".into(), reader: Box::new(Cursor::new(data.to_vec())) };
    let options = Options { kind, fields: None };
    let output = read(vec![input], &options, &Config::default(), &mut |_| ControlFlow::Continue(())).ok()?;
    Some((output.rows.len(), output.account.records))
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let kind = Kind::ALL.get(usize::from(*first)).copied();
    assert_eq!(rows(rest, kind), rows(rest, kind));
});
