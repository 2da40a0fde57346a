//! Synchronization primitives: atomics, seqlocks, published values and work queues.
//!
//! A writer never waits for a reader. [`Versions`] are seqlocks: the writer makes the version odd, writes, and makes
//! the version even again. A reader that sees an odd or a changed version retries.
//!
//! Acquire and release orderings suffice: a reader of any word of a later write also sees the odd version of that
//! write. So no fence is needed, and the loom models (`tests/loom/`, the feature `models`) cover the whole protocol.
//! Each [`Mutant`] removes one essential step, and a model fails for each mutant.

#[cfg(feature = "models")]
pub use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(feature = "models"))]
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use Ordering::{Acquire, Relaxed, Release};

#[cfg(feature = "models")]
pub use modelled::{Published, Queue, Turn, mutate};
#[cfg(not(feature = "models"))]
pub use shared::{Published, Queue, Turn};

/// Protocol steps that a model can remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Write words without an odd version.
    NoVersion,
    /// Relax the stores of words, so that the odd version no longer precedes them.
    RelaxedWords,
    /// Relax the loads of words, so that earlier stores may be missed.
    RelaxedReads,
    /// Publish a region before initialization.
    EarlyRegion,
    /// Leave a removed connection visible in its slot.
    NoVacating,
    /// Trust the tag without a key comparison.
    NoCompare,
    /// Skip the rescan of the queue after the lock is released.
    NoRescan,
}

/// True if the running model has removed this step.
#[cfg(feature = "models")]
pub fn mutant(mutant: Mutant) -> bool {
    modelled::is(mutant)
}

/// Always false outside of models.
#[cfg(not(feature = "models"))]
#[inline]
pub const fn mutant(_: Mutant) -> bool {
    false
}

/// Hint to the scheduler in a retry loop.
pub fn pause() {
    #[cfg(feature = "models")]
    loom::thread::yield_now();
    #[cfg(not(feature = "models"))]
    std::thread::yield_now();
}

/// Declare an atomic word with one writer and any number of readers. The writer's accesses are plain moves on x86-64.
macro_rules! cell {
    ($(#[$doc:meta])* $cell:ident, $atomic:ident, $number:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $cell($atomic);

        impl Default for $cell {
            fn default() -> Self {
                Self($atomic::new(0))
            }
        }

        impl $cell {
            /// Load by the writer.
            #[inline]
            pub fn get(&self) -> $number {
                self.0.load(Relaxed)
            }

            /// Store by the writer, ordered after the odd version of its slot.
            #[inline]
            pub fn set(&self, number: $number) {
                self.0.store(number, if mutant(Mutant::RelaxedWords) { Relaxed } else { Release });
            }

            /// Load by a reader; see [`Versions::read`].
            #[inline]
            pub fn read(&self) -> $number {
                self.0.load(if mutant(Mutant::RelaxedReads) { Relaxed } else { Acquire })
            }
        }
    };
}

cell!(
    /// A word of 64 bits.
    Cell64, AtomicU64, u64
);
cell!(
    /// A word of 32 bits.
    Cell32, AtomicU32, u32
);

/// Number of seqlock stripes. Many slots share a stripe, so that all versions fit into the first-level cache.
pub const STRIPES: usize = if cfg!(feature = "models") { 1 } else { 256 };

/// Striped seqlocks of a slab with a single writer.
pub struct Versions([AtomicU64; STRIPES]);

impl Default for Versions {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Versions {
    /// Write a slot and its cold fields. Equals [`Self::change`] where readers exist; without readers no version
    /// changes.
    #[inline]
    pub fn change_if<const READERS: bool, R>(&self, number: u32, change: impl FnOnce() -> R) -> R {
        if READERS { self.change(number, change) } else { change() }
    }

    /// Write a slot and its cold fields under an odd version. Write sections do not nest.
    #[inline]
    pub fn change<R>(&self, number: u32, change: impl FnOnce() -> R) -> R {
        let version = &self.0[number as usize % STRIPES];
        let before = version.load(Relaxed);
        if !mutant(Mutant::NoVersion) {
            version.store(before + 1, Relaxed);
        }
        let changed = change();
        if !mutant(Mutant::NoVersion) {
            version.store(before + 2, Release);
        }
        changed
    }

    /// Read a slot and its cold fields consistently: call `look` until no write interferes.
    pub fn read<R>(&self, number: u32, mut look: impl FnMut() -> R) -> R {
        let version = &self.0[number as usize % STRIPES];
        loop {
            let before = version.load(Acquire);
            if before.is_multiple_of(2) {
                let seen = look();
                if version.load(Relaxed) == before {
                    return seen;
                }
            }
            pause();
        }
    }
}

/// Work queue drained by whichever thread holds the state's lock (flat combining). A thread that finds the lock taken
/// leaves its work in the queue and does not wait.
pub struct Station<T, W> {
    turn: Turn<T>,
    waiting: Queue<W>,
}

impl<T, W> Station<T, W> {
    /// An empty queue for this state.
    pub fn new(state: Box<T>) -> Self {
        Self { turn: Turn::new(state), waiting: Queue::default() }
    }

    /// Enqueue work. The caller must call [`Self::serve`] afterwards.
    pub fn bring(&self, work: W) {
        self.waiting.push(work);
    }

    /// Drain the queue in arrival order, unless another thread holds the lock. Returns true if any work was done.
    pub fn serve(&self, mut work: impl FnMut(&mut T, W)) -> bool {
        let mut served = false;
        while !self.waiting.is_empty() {
            let Some(mut state) = self.turn.take() else { break };
            while let Some(next) = self.waiting.pop() {
                work(&mut state, next);
                served = true;
            }
            self.turn.give_back(state);
            // Work that arrived after the last pop and before the unlock saw a taken lock, so rescan the queue.
            if mutant(Mutant::NoRescan) {
                break;
            }
        }
        served
    }

    /// The state, once no thread holds the lock; None if a thread panicked with the lock held.
    pub fn into_inner(self) -> Option<Box<T>> {
        self.turn.take()
    }

    /// Lock the state and apply `look`, waiting for the current holder. The caller must call [`Self::serve`]
    /// afterwards if other threads enqueue work.
    pub fn between<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        let mut state = loop {
            match self.turn.take() {
                Some(state) => break state,
                None => pause(),
            }
        };
        let seen = look(&mut state);
        self.turn.give_back(state);
        seen
    }
}

#[cfg(not(feature = "models"))]
mod shared {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use crossbeam_queue::SegQueue;
    use crossbeam_utils::atomic::AtomicCell;

    /// Value that one thread replaces and any thread reads. A replaced value lives until its last reader drops the
    /// reference.
    pub struct Published<T>(ArcSwap<T>);

    impl<T> Published<T> {
        /// Publish the initial value.
        pub fn new(value: T) -> Self {
            Self(ArcSwap::from_pointee(value))
        }

        /// Replace the value.
        pub fn show(&self, value: T) {
            self.0.store(Arc::new(value));
        }

        /// The current value.
        pub fn get(&self) -> Arc<T> {
            self.0.load_full()
        }
    }

    impl<T: Default> Default for Published<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// Try-lock of a boxed value: a thread that finds the value taken does not wait.
    pub struct Turn<T>(AtomicCell<Option<Box<T>>>);

    impl<T> Turn<T> {
        /// An unlocked value.
        pub fn new(value: Box<T>) -> Self {
            Self(AtomicCell::new(Some(value)))
        }

        /// Take the value; None while another thread holds the value.
        pub fn take(&self) -> Option<Box<T>> {
            self.0.take()
        }

        /// Put the value back. A swap and not a store: work enqueued by a thread that saw a taken lock becomes
        /// visible here.
        pub fn give_back(&self, value: Box<T>) {
            self.0.swap(Some(value));
        }
    }

    /// Unbounded multi-producer, multi-consumer FIFO queue.
    pub struct Queue<T>(SegQueue<T>);

    impl<T> Default for Queue<T> {
        fn default() -> Self {
            Self(SegQueue::new())
        }
    }

    impl<T> Queue<T> {
        /// Append an element.
        pub fn push(&self, value: T) {
            self.0.push(value);
        }

        /// Pop the oldest element; None if the queue is empty.
        pub fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        /// True if the queue is empty.
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}

#[cfg(feature = "models")]
mod modelled {
    //! Stand-ins for library types that the models take as proved. Only the promised ordering is modelled; the
    //! contents are behind locks that the models do not see.

    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::{AtomicUsize, Mutant, Ordering};

    static LEFT_OUT: Mutex<Option<Mutant>> = Mutex::new(None);

    fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remove a protocol step from now on; None restores the protocol.
    pub fn mutate(left_out: Option<Mutant>) {
        *locked(&LEFT_OUT) = left_out;
    }

    pub(super) fn is(mutant: Mutant) -> bool {
        *locked(&LEFT_OUT) == Some(mutant)
    }

    impl<T: Default> Default for Published<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// Model of `shared::Published`.
    pub struct Published<T> {
        last: AtomicUsize,
        values: Mutex<Vec<Arc<T>>>,
    }

    impl<T> Published<T> {
        /// Publish the initial value.
        pub fn new(value: T) -> Self {
            Self { last: AtomicUsize::new(0), values: Mutex::new(vec![Arc::new(value)]) }
        }

        /// Replace the value.
        pub fn show(&self, value: T) {
            let mut values = locked(&self.values);
            values.push(Arc::new(value));
            let last = values.len() - 1;
            drop(values);
            self.last.store(last, Ordering::Release);
        }

        /// The current value.
        pub fn get(&self) -> Arc<T> {
            let last = self.last.load(Ordering::Acquire);
            locked(&self.values)[last].clone()
        }
    }

    /// Model of `shared::Turn`.
    pub struct Turn<T> {
        there: AtomicUsize,
        value: Mutex<Option<Box<T>>>,
    }

    impl<T> Turn<T> {
        /// An unlocked value.
        pub fn new(value: Box<T>) -> Self {
            Self { there: AtomicUsize::new(1), value: Mutex::new(Some(value)) }
        }

        /// Take the value; None while another thread holds the value.
        pub fn take(&self) -> Option<Box<T>> {
            (self.there.swap(0, Ordering::AcqRel) == 1).then(|| locked(&self.value).take()).flatten()
        }

        /// Put the value back.
        pub fn give_back(&self, value: Box<T>) {
            *locked(&self.value) = Some(value);
            self.there.swap(1, Ordering::AcqRel);
        }
    }

    /// Model of `shared::Queue`.
    pub struct Queue<T> {
        changes: AtomicUsize,
        values: Mutex<VecDeque<T>>,
    }

    impl<T> Default for Queue<T> {
        fn default() -> Self {
            Self { changes: AtomicUsize::new(0), values: Mutex::default() }
        }
    }

    impl<T> Queue<T> {
        /// Append an element.
        pub fn push(&self, value: T) {
            self.changes.fetch_add(1, Ordering::AcqRel);
            locked(&self.values).push_back(value);
        }

        /// Pop the oldest element; None if the queue is empty.
        pub fn pop(&self) -> Option<T> {
            self.changes.fetch_add(1, Ordering::AcqRel);
            locked(&self.values).pop_front()
        }

        /// True if the queue is empty.
        pub fn is_empty(&self) -> bool {
            self.changes.load(Ordering::Acquire);
            locked(&self.values).is_empty()
        }
    }
}
