//! The index from hashes to slots: buckets of one cache line, each with ten tags and their ten slots.
//!
//! A tag is sixteen bits of the hash; a lookup compares ten at once and reads a slot's key only where the tag matches.
//! Overflow of a bucket goes to the next bucket, and every bucket counts the entries that overflowed past that bucket.
//! So a miss is nearly always one line, and a removal leaves no tombstone. The top bits of a hash choose a region, and
//! a full region doubles alone. Growth costs a small part of the table, never all.
//!
//! Readers look up concurrently with the owner. An entry never moves within its region's buckets, and is published
//! last: readers miss no present entry. A found entry may be stale, which the key in its slot shows. A doubled region
//! is published once filled; a reader of the old one still finds all entries from the start of the lookup.

use std::sync::Arc;

use conntrack_base::sync::{AtomicU64, Mutant, Ordering, Published, mutant};

/// Regions, by the top bits of the hash.
const REGION_BITS: u32 = if cfg!(feature = "models") { 1 } else { 8 };
/// Entries of a bucket.
const ENTRIES: usize = 10;
/// Words of a bucket: ten tags of two bytes and the overflow count, then ten slots.
const BUCKET: usize = 8;
const SLOT_WORDS: usize = 3;
/// A region doubles when its buckets hold eight entries each on average.
const FULL: usize = if cfg!(feature = "models") { 1 } else { 8 };
/// Buckets of a non-empty region.
const FIRST: usize = if cfg!(feature = "models") { 1 } else { 2 };
/// Buckets that are moved together.
const TOGETHER: usize = 8;
/// One bit in each tag of a word.
const LOW: u64 = 0x0001_0001_0001_0001;
const HIGH: u64 = 0x8000_8000_8000_8000;
/// The entry of a match bit: bits of the three words are interleaved.
const ENTRY_OF: [u8; 64] = {
    let mut entries = [0; 64];
    let mut entry = 0;
    while entry < ENTRIES {
        entries[entry % 4 * 16 + entry / 4] = entry as u8;
        entry += 1;
    }
    entries
};
/// The last two tags share their word with the overflow count.
const TAGS_OF: [u64; SLOT_WORDS] = [u64::MAX, u64::MAX, 0xffff_ffff];

/// A cache line.
#[repr(align(64))]
struct Bucket([AtomicU64; BUCKET]);

/// The buckets of a region: a power of two, or none.
#[derive(Clone)]
pub(super) struct Buckets(Arc<[Bucket]>);

/// Slots by hash. The keys are the caller's, whose closure compares them.
pub(super) struct Index {
    regions: Box<[Region; 1 << REGION_BITS]>,
    shown: IndexView,
    len: usize,
}

/// The index for readers.
#[derive(Clone)]
pub(super) struct IndexView(Arc<[Published<Buckets>]>);

/// The owner's data of a region.
struct Region {
    buckets: Buckets,
    len: usize,
}

/// The position of an entry: bucket, and entry within the bucket.
type BucketSlot = (usize, usize);

fn tag(hash: u64) -> u64 {
    // 0 is a free entry.
    (hash & 0xffff).max(1)
}

/// The region of a hash.
#[inline]
fn region(hash: u64) -> usize {
    (hash >> (u64::BITS - REGION_BITS)) as usize % (1 << REGION_BITS)
}

impl Default for Bucket {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Bucket {
    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Acquire)
    }

    /// The owner's region of a hash.
    #[inline]
    fn owned(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Relaxed)
    }

    /// Store a bit field in a word.
    fn set(&self, at: usize, shift: usize, mask: u64, number: u64) {
        let word = self.word(at) & !(mask << shift) | number << shift;
        self.0[at].store(word, Ordering::Release);
    }

    fn tag(&self, entry: usize) -> u64 {
        self.word(entry / 4) >> (entry % 4 * 16) & 0xffff
    }

    fn set_tag(&self, entry: usize, tag: u64) {
        self.set(entry / 4, entry % 4 * 16, 0xffff, tag);
    }

    fn slot(&self, entry: usize) -> u32 {
        (self.word(SLOT_WORDS + entry / 2) >> (entry % 2 * 32)) as u32
    }

    fn set_slot(&self, entry: usize, slot: u32) {
        self.set(SLOT_WORDS + entry / 2, entry % 2 * 32, 0xffff_ffff, u64::from(slot));
    }

    /// The number of entries that overflowed past this bucket to a later one.
    fn passed(&self) -> u32 {
        (self.word(SLOT_WORDS - 1) >> 32) as u32
    }

    fn set_passed(&self, count: u32) {
        self.set(SLOT_WORDS - 1, 32, 0xffff_ffff, u64::from(count));
    }
}

/// The entries with this tag (0: the free ones), the first of each word before the second ones.
#[inline]
fn candidates(bucket: &Bucket, tag: u64) -> impl Iterator<Item = usize> + use<> {
    // One bit for each entry, interleaved across the words.
    const ENTRY_BITS: u64 = LOW | LOW << 1 | (LOW & TAGS_OF[2]) << 2;
    let mut differ = 0;
    for (at, mask) in TAGS_OF.into_iter().enumerate() {
        let difference = bucket.word(at) ^ (tag * LOW);
        // The top bit of each tag that differs. Nothing carries into the next tag: no false matches.
        let differs = (difference & !HIGH).wrapping_add(!HIGH) | difference;
        differ |= (differs & HIGH & mask) >> (15 - at);
    }
    let mut same = differ ^ ENTRY_BITS;
    std::iter::from_fn(move || {
        let bit = same.trailing_zeros() as usize;
        let found = same != 0;
        same &= same.wrapping_sub(1);
        found.then_some(bit % 16 * 4 + bit / 16)
    })
}

impl Buckets {
    fn with_room(buckets: usize) -> Self {
        Self(std::iter::repeat_with(Bucket::default).take(buckets).collect())
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> 16) as usize & self.0.len().wrapping_sub(1)
    }

    fn next(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.0.len() - 1)
    }

    /// The position of the matching slot with this hash.
    #[inline]
    fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<(BucketSlot, u32)> {
        let mut at = self.home(hash);
        // A chain of full buckets is never longer than the region.
        for _ in 0..self.0.len() {
            let bucket = self.0.get(at)?;
            for entry in candidates(bucket, tag(hash)) {
                let slot = bucket.slot(entry);
                if is_it(slot) {
                    return Some(((at, entry), slot));
                }
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    fn put(&self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &self.0[at];
            if let Some(entry) = candidates(bucket, 0).next() {
                // The tag is stored last: it publishes the entry.
                bucket.set_slot(entry, slot);
                bucket.set_tag(entry, tag(hash));
                return;
            }
            bucket.set_passed(bucket.passed() + 1);
            at = self.next(at);
        }
    }

    fn take(&self, hash: u64, (found, entry): BucketSlot) {
        let mut at = self.home(hash);
        while at != found {
            let bucket = &self.0[at];
            bucket.set_passed(bucket.passed() - 1);
            at = self.next(at);
        }
        self.0[found].set_tag(entry, 0);
    }

    /// A copy of twice the size, with all entries; `hash_of` returns their hashes.
    fn doubled(&self, hash_of: &impl Fn(u32) -> u64) -> Self {
        let doubled = Self::with_room((self.0.len() * 2).max(FIRST));
        let mut moved = Vec::with_capacity(TOGETHER * ENTRIES);
        for buckets in self.0.chunks(TOGETHER) {
            // The keys are read one after another, so that cache misses overlap.
            moved.clear();
            for bucket in buckets {
                let used = (0..ENTRIES).filter(|entry| bucket.tag(*entry) != 0);
                moved.extend(used.map(|entry| bucket.slot(entry)).map(|slot| (hash_of(slot), slot)));
            }
            for (hash, slot) in &moved {
                doubled.put(*hash, *slot);
            }
        }
        doubled
    }
}

impl IndexView {
    /// The matching slot with this hash.
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.0[region(hash)].get().find(hash, is_it).map(|(_, slot)| slot)
    }
}

impl Default for Index {
    fn default() -> Self {
        let empty = || Buckets::with_room(0);
        let regions = Box::new(std::array::from_fn(|_| Region { buckets: empty(), len: 0 }));
        Self { regions, shown: IndexView((0..1 << REGION_BITS).map(|_| Published::new(empty())).collect()), len: 0 }
    }
}

impl Index {
    /// The index for readers.
    pub(super) fn view(&self) -> IndexView {
        self.shown.clone()
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The most bytes for this many entries: right after a region doubled, with a bucket in each region.
    pub(super) fn most_bytes(entries: usize) -> usize {
        let first = if entries == 0 { 0 } else { FIRST << REGION_BITS };
        (entries * 2 / FULL + first) * size_of::<Bucket>()
    }

    #[inline]
    fn buckets(&self, hash: u64) -> &Buckets {
        &self.regions[region(hash)].buckets
    }

    /// The matching slot with this hash.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.buckets(hash).find(hash, is_it).map(|(_, slot)| slot)
    }

    /// Read the index line of this hash, so that the later lookup finds the line in the cache.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        let buckets = self.buckets(hash);
        buckets.0.get(buckets.home(hash)).map_or(0, |bucket| bucket.word(0))
    }

    /// The likely slot of this hash, without a comparison of keys.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        let buckets = self.buckets(hash);
        let bucket = buckets.0.get(buckets.home(hash))?;
        let tags = tag(hash) * LOW;
        // The top bit of each tag that matches; one above it may be a false match, the lowest one is not.
        let [a, b, c] = [0, 1, 2].map(|at| {
            let differs = bucket.owned(at) ^ tags;
            differs.wrapping_sub(LOW) & !differs & HIGH
        });
        let same = a >> 15 | b >> 14 | (c & TAGS_OF[2]) >> 13;
        let entry = usize::from(ENTRY_OF[same.trailing_zeros() as usize % 64]);
        (same != 0).then(|| (bucket.owned(SLOT_WORDS + entry / 2) >> (entry % 2 * 32)) as u32)
    }

    /// Add an absent slot. `hash_of` returns the hash of the present ones.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let number = region(hash);
        let region = &mut self.regions[number];
        if region.len >= region.buckets.0.len() * FULL {
            if mutant(Mutant::EarlyRegion) {
                self.shown.0[number].show(Buckets::with_room((region.buckets.0.len() * 2).max(FIRST)));
            }
            region.buckets = region.buckets.doubled(&hash_of);
            self.shown.0[number].show(region.buckets.clone());
        }
        region.buckets.put(hash, slot);
        region.len += 1;
        self.len += 1;
    }

    /// Remove a slot.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let region = &mut self.regions[region(hash)];
        if let Some((position, _)) = region.buckets.find(hash, |found| found == slot) {
            region.buckets.take(hash, position);
            region.len -= 1;
            self.len -= 1;
        }
    }

    /// Remove all slots.
    pub(super) fn clear(&mut self) {
        for (region, shown) in self.regions.iter_mut().zip(self.shown.0.iter()) {
            if region.len > 0 {
                *region = Region { buckets: Buckets::with_room(0), len: 0 };
                shown.show(region.buckets.clone());
            }
        }
        self.len = 0;
    }
}

#[cfg(all(test, not(feature = "models")))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A hash whose parts collide often: few regions, few buckets, few tags.
    fn crowded(key: u32) -> u64 {
        let key = u64::from(key);
        (key % 2) << 63 | (key / 2 % 3) << 16 | (key / 6 % 5)
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..400_u32, any::<bool>()), 1..2_000)) {
            let mut index = Index::default();
            let (mut naive, mut most) = (HashMap::new(), 0);
            for (key, insert) in steps {
                let found = index.find(crowded(key), |slot| slot == key);
                prop_assert_eq!(index.view().find(crowded(key), |slot| slot == key), found);
                prop_assert_eq!(found, naive.get(&key).copied());
                match (insert, found) {
                    (true, None) => {
                        index.insert(crowded(key), key, crowded);
                        naive.insert(key, key);
                    }
                    (false, Some(slot)) => {
                        index.remove(crowded(key), slot);
                        naive.remove(&key);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), naive.len());
                most = most.max(naive.len());
                let buckets: usize = index.regions.iter().map(|region| region.buckets.0.len()).sum();
                prop_assert!(buckets * size_of::<Bucket>() <= Index::most_bytes(most));
            }
            for key in naive.keys() {
                prop_assert_eq!(index.find(crowded(*key), |slot| slot == *key), Some(*key));
                index.remove(crowded(*key), *key);
            }
            let is_clean = |bucket: &Bucket| bucket.passed() == 0 && (0..ENTRIES).all(|entry| bucket.tag(entry) == 0);
            prop_assert!(index.regions.iter().flat_map(|region| region.buckets.0.iter()).all(is_clean));
        }
    }
}
