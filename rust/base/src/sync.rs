//! What threads share: atomics, words that readers see whole, and what is published for them.
//!
//! A writer never waits for a reader. [`Versions`] say whether words changed while they were read: a writer makes its
//! version odd, writes, and makes it even again; a reader who found it odd or changed reads again. Acquire and release
//! are all that it needs: whoever reads a word of a later write also sees its odd version, so that no fence orders them,
//! and the models (`tests/loom/`, the feature `models`) can check all of it. Each [`Mutant`] leaves out one thing that
//! matters; a model fails for it.

#[cfg(feature = "models")]
pub use loom::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(feature = "models"))]
pub use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use Ordering::{Acquire, Relaxed, Release};

#[cfg(feature = "models")]
pub use modelled::{Published, Queue, Turn, mutate};
#[cfg(not(feature = "models"))]
pub use shared::{Published, Queue, Turn};

/// What a model can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Words are written while their version says that they are at rest.
    NoVersion,
    /// The writes of words are not ordered behind their odd version.
    RelaxedWords,
    /// Reading words does not see what was written before them.
    RelaxedReads,
    /// A region is shown before it was filled.
    EarlyRegion,
    /// A place whose connection is gone still shows it.
    NoVacating,
    /// A reader believes the tag and does not compare the key.
    NoCompare,
    /// Who gives a turn back does not look again whether something came meanwhile.
    NoRescan,
}

/// Whether this is what the running model leaves out.
#[cfg(feature = "models")]
pub fn mutant(mutant: Mutant) -> bool {
    modelled::is(mutant)
}

/// Nothing is left out.
#[cfg(not(feature = "models"))]
#[inline]
pub const fn mutant(_: Mutant) -> bool {
    false
}

/// Lets other threads go on, before something is tried again.
pub fn pause() {
    #[cfg(feature = "models")]
    loom::thread::yield_now();
    #[cfg(not(feature = "models"))]
    std::thread::yield_now();
}

/// Declares a number of one owner that any thread may read: the owner's loads and stores are plain moves on x86-64.
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
            /// The owner's load.
            #[inline]
            pub fn get(&self) -> $number {
                self.0.load(Relaxed)
            }

            /// The owner's store, ordered behind the odd version of its slot.
            #[inline]
            pub fn set(&self, number: $number) {
                self.0.store(number, if mutant(Mutant::RelaxedWords) { Relaxed } else { Release });
            }

            /// The load of any other thread; see [`Versions::read`].
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

/// Versions of places, each of which many places share: few enough to stay in the nearest cache.
pub const STRIPES: usize = if cfg!(feature = "models") { 1 } else { 256 };

/// Says of places by number whether they are at rest, and whether they changed. They have one writer.
pub struct Versions([AtomicU64; STRIPES]);

impl Default for Versions {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Versions {
    /// Changes what is in a place, and beside it, as [`Self::change`] does where readers exist. Without readers nobody looks
    /// at versions.
    #[inline]
    pub fn change_if<const READERS: bool, R>(&self, number: u32, change: impl FnOnce() -> R) -> R {
        if READERS { self.change(number, change) } else { change() }
    }

    /// Changes what is in a place, and beside it. Changes do not nest.
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

    /// What `look` sees of a place, and beside it, while nothing of it changes: it looks until that is so.
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

/// What one thread at a time works on, and the work that waits for it. Whoever brings work, and whoever has nothing else to
/// do, serves it; who finds somebody else serving leaves his work there and does not wait.
pub struct Station<T, W> {
    turn: Turn<T>,
    waiting: Queue<W>,
}

impl<T, W> Station<T, W> {
    /// Nothing waits.
    pub fn new(state: Box<T>) -> Self {
        Self { turn: Turn::new(state), waiting: Queue::default() }
    }

    /// Brings work. [`Self::serve`] is owed afterwards.
    pub fn bring(&self, work: W) {
        self.waiting.push(work);
    }

    /// Does what waits, in the order in which it came, unless somebody else is at it. Returns whether anything was done.
    pub fn serve(&self, mut work: impl FnMut(&mut T, W)) -> bool {
        let mut served = false;
        while !self.waiting.is_empty() {
            let Some(mut state) = self.turn.take() else { break };
            while let Some(next) = self.waiting.pop() {
                work(&mut state, next);
                served = true;
            }
            self.turn.give_back(state);
            // What came after the last look and before the turn was back has found nobody: one more look.
            if mutant(Mutant::NoRescan) {
                break;
            }
        }
        served
    }

    /// What it worked on, once nobody does any more; None where that never came back.
    pub fn into_inner(self) -> Option<Box<T>> {
        self.turn.take()
    }

    /// What it works on, between two pieces of work: whoever is at it is waited for. [`Self::serve`] is owed afterwards where
    /// others may bring work.
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

    /// A value that one thread replaces and any may read; a replaced one lives as long as somebody reads it.
    pub struct Published<T>(ArcSwap<T>);

    impl<T> Published<T> {
        /// Shows this value.
        pub fn new(value: T) -> Self {
            Self(ArcSwap::from_pointee(value))
        }

        /// Shows another one from now on.
        pub fn show(&self, value: T) {
            self.0.store(Arc::new(value));
        }

        /// What is shown.
        pub fn get(&self) -> Arc<T> {
            self.0.load_full()
        }
    }

    impl<T: Default> Default for Published<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// What one thread at a time has in hand, by taking it; who comes meanwhile finds it gone and does not wait.
    pub struct Turn<T>(AtomicCell<Option<Box<T>>>);

    impl<T> Turn<T> {
        /// It is there.
        pub fn new(value: Box<T>) -> Self {
            Self(AtomicCell::new(Some(value)))
        }

        /// Takes it; None where somebody has it.
        pub fn take(&self) -> Option<Box<T>> {
            self.0.take()
        }

        /// Gives it back. A swap, not a store: who found it gone before is seen from now on.
        pub fn give_back(&self, value: Box<T>) {
            self.0.swap(Some(value));
        }
    }

    /// First in, first out, for any number of threads.
    pub struct Queue<T>(SegQueue<T>);

    impl<T> Default for Queue<T> {
        fn default() -> Self {
            Self(SegQueue::new())
        }
    }

    impl<T> Queue<T> {
        /// Adds one at the end.
        pub fn push(&self, value: T) {
            self.0.push(value);
        }

        /// Takes the first one.
        pub fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        /// Whether there is none.
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}

#[cfg(feature = "models")]
mod modelled {
    //! Stand-ins for what the models take for proved: only the order that they promise is modelled. What they hold is
    //! behind locks that the models do not see.

    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::{AtomicUsize, Mutant, Ordering};

    static LEFT_OUT: Mutex<Option<Mutant>> = Mutex::new(None);

    fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something out from now on.
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

    /// See `shared`.
    pub struct Published<T> {
        last: AtomicUsize,
        values: Mutex<Vec<Arc<T>>>,
    }

    impl<T> Published<T> {
        /// Shows this value.
        pub fn new(value: T) -> Self {
            Self { last: AtomicUsize::new(0), values: Mutex::new(vec![Arc::new(value)]) }
        }

        /// Shows another one from now on.
        pub fn show(&self, value: T) {
            let mut values = locked(&self.values);
            values.push(Arc::new(value));
            let last = values.len() - 1;
            drop(values);
            self.last.store(last, Ordering::Release);
        }

        /// What is shown.
        pub fn get(&self) -> Arc<T> {
            let last = self.last.load(Ordering::Acquire);
            locked(&self.values)[last].clone()
        }
    }

    /// See `shared`.
    pub struct Turn<T> {
        there: AtomicUsize,
        value: Mutex<Option<Box<T>>>,
    }

    impl<T> Turn<T> {
        /// It is there.
        pub fn new(value: Box<T>) -> Self {
            Self { there: AtomicUsize::new(1), value: Mutex::new(Some(value)) }
        }

        /// Takes it; None where somebody has it.
        pub fn take(&self) -> Option<Box<T>> {
            (self.there.swap(0, Ordering::AcqRel) == 1).then(|| locked(&self.value).take()).flatten()
        }

        /// Gives it back.
        pub fn give_back(&self, value: Box<T>) {
            *locked(&self.value) = Some(value);
            self.there.swap(1, Ordering::AcqRel);
        }
    }

    /// See `shared`.
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
        /// Adds one at the end.
        pub fn push(&self, value: T) {
            self.changes.fetch_add(1, Ordering::AcqRel);
            locked(&self.values).push_back(value);
        }

        /// Takes the first one.
        pub fn pop(&self) -> Option<T> {
            self.changes.fetch_add(1, Ordering::AcqRel);
            locked(&self.values).pop_front()
        }

        /// Whether there is none.
        pub fn is_empty(&self) -> bool {
            self.changes.load(Ordering::Acquire);
            locked(&self.values).is_empty()
        }
    }
}
