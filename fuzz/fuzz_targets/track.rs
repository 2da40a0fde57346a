//! Any bytes as a capture, all the way to rows and labels.
#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;

use conntrack_core::capture::{Captures, Input};
use conntrack_core::config::Config;
use conntrack_core::labels::WIDTH;
use conntrack_core::pipeline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let input = Input::Reader { name: "fuzz".into(), reader: Box::new(Cursor::new(data.to_vec())) };
    let Ok(mut captures) = Captures::open(vec![input], false) else { return };
    let mut go_on = |_| ControlFlow::Continue(());
    let Ok(tracked) = pipeline::track(&mut captures, &Config::default(), true, &mut go_on) else { return };
    assert_eq!(tracked.stats.connections, tracked.rows.len() as u64);
    assert_eq!(tracked.labels.map(|labels| labels.len() as u64), Some(tracked.stats.packets * WIDTH as u64));
});
