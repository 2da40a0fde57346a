//! Arbitrary bytes as a capture, up to rows and labels, with a policy, and with names.
#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use conntrack_core::capture::{Captures, Input};
use conntrack_core::config::Config;
use conntrack_core::labels::WIDTH;
use conntrack_core::pipeline;
use conntrack_core::policy::{Combine, Group, Policy};
use libfuzzer_sys::fuzz_target;

/// A group of half of all addresses, closed to ingress and open to egress.
static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let members = ["0.0.0.0/1", "::/1"].into_iter().filter_map(|net| net.parse().ok()).collect();
    Arc::new(Policy::new(&[Group { members, open: [false, true], ..Group::default() }], Combine::All))
});

fuzz_target!(|data: &[u8]| {
    let open = || {
        let input = Input::Reader { name: "fuzz".into(), reader: Box::new(Cursor::new(data.to_vec())) };
        Captures::open(vec![input], false).ok()
    };
    let config = Config::default();
    let mut go_on = |_| ControlFlow::Continue(());
    let Some(tracked) = open().and_then(|mut captures| pipeline::track(&mut captures, &config, true, &mut go_on).ok())
    else {
        return;
    };
    assert_eq!(tracked.stats.connections, tracked.rows.len() as u64);
    assert_eq!(tracked.labels.map(|labels| labels.len() as u64), Some(tracked.stats.packets * WIDTH as u64));
    let replayed =
        open().and_then(|mut captures| pipeline::replay(&mut captures, &config, &POLICY, true, &mut go_on).ok());
    if let Some(replayed) = replayed {
        assert_eq!(replayed.packets.iter().sum::<u64>(), tracked.stats.packets);
        assert_eq!(replayed.tracked.rows.len(), tracked.rows.len());
    }
    let named = open().and_then(|mut captures| pipeline::named(&mut captures, &config, &mut go_on).ok());
    assert!(named.is_none_or(|(again, names)| names.len() <= again.rows.len()));
});
