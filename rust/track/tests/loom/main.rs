//! Models of every interleaving of threads on a table, up to two preemptions: exhaustive exploration, not stress. For
//! each safeguard there is a mutant without the safeguard, which must be caught.
//!
//! The owner is the first thread and the reader the concurrent one: the explorer remembers one access of each word. An
//! owner that loads a word before its store would hide the reader's load from the explorer.
//!
//! `make model-test`
#![cfg(feature = "models")]
#![allow(clippy::print_stdout, reason = "a model says how many orders it has")]

mod cold;
mod packets;
mod slots;
mod trackers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conntrack_base::sync::{Mutant, mutate};

/// The mutant is global: one model at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The time limit of a model, beyond which there are too many orders to explore.
const LONGEST: Duration = Duration::from_secs(120);

fn builder() -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 100_000;
    builder.max_duration = Some(LONGEST);
    builder
}

/// Explore a model with the value that `known` makes once, outside of all interleavings.
fn explore<K: Send + Sync + 'static>(
    left_out: Option<Mutant>,
    known: impl Fn() -> K + Sync + Send + 'static,
    model: impl Fn(&K) + Sync + Send + 'static,
) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let known = once(known);
    mutate(left_out);
    let (orders, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let counted = orders.clone();
    let explored = catch_unwind(AssertUnwindSafe(|| {
        builder().check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model(&known);
        });
    }));
    mutate(None);
    match (left_out, explored) {
        (None, Err(panic)) => std::panic::resume_unwind(panic),
        (Some(mutant), Ok(())) => panic!("the model does not catch {mutant:?}"),
        (None, Ok(())) => {
            let orders = orders.load(Ordering::Relaxed);
            println!("{orders} orders");
            assert!(began.elapsed() < LONGEST, "not all orders were explored");
            assert!(orders > 10, "nothing was explored");
        }
        _ => {}
    }
}

/// Make a value where modelled atomics work.
fn once<K: Send + 'static>(make: impl Fn() -> K + Sync + Send + 'static) -> K {
    let made = Arc::new(Mutex::new(None));
    let kept = made.clone();
    builder().check(move || *kept.lock().unwrap() = Some(make()));
    let mut made = made.lock().unwrap();
    made.take().unwrap()
}
