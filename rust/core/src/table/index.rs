//! From a hash to slots: buckets of one cache line, each with ten tags and the ten slots they stand for.
//!
//! A tag is sixteen bits of the hash; a lookup compares ten at once and reads a slot's key only where the tag is right.
//! What does not fit into its bucket goes to the next one, and every bucket counts those that went past it, so that a
//! miss is nearly always one line and nothing is left behind by a removal. The top bits of a hash choose a region, and a
//! region that is full doubles alone: growing costs as long as a small part of the table, never as long as all of it.

/// Regions, by the top bits of the hash.
const REGION_BITS: u32 = 8;
/// Entries of a bucket.
const ENTRIES: usize = 10;
/// Words of a bucket: ten tags of two bytes and the count of those that went past, then ten slots.
const BUCKET: usize = 8;
const SLOT_WORDS: usize = 3;
/// A region doubles when its buckets hold eight entries each on average.
const FULL: usize = 8;
/// Buckets that are moved together.
const TOGETHER: usize = 8;
/// One bit in each tag of a word.
const LOW: u64 = 0x0001_0001_0001_0001;
const HIGH: u64 = 0x8000_8000_8000_8000;
/// The last two tags share their word with the count.
const TAGS_OF: [u64; SLOT_WORDS] = [u64::MAX, u64::MAX, 0xffff_ffff];

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket([u64; BUCKET]);

/// Slots by hash. The keys are the caller's: he says whether a slot is the one.
pub(super) struct Index {
    regions: Vec<Region>,
    len: usize,
}

/// A power of two of buckets; empty until something is inserted.
#[derive(Default)]
struct Region {
    buckets: Vec<Bucket>,
    len: usize,
}

/// Where an entry is: its bucket, and its place in it.
type Place = (usize, usize);

fn tag(hash: u64) -> u64 {
    // 0 is a free place.
    (hash & 0xffff).max(1)
}

fn tag_at(bucket: &Bucket, place: usize) -> u64 {
    bucket.0[place / 4] >> (place % 4 * 16) & 0xffff
}

fn set_tag(bucket: &mut Bucket, place: usize, tag: u64) {
    let shift = place % 4 * 16;
    let word = &mut bucket.0[place / 4];
    *word = *word & !(0xffff << shift) | tag << shift;
}

fn slot_at(bucket: &Bucket, place: usize) -> u32 {
    (bucket.0[SLOT_WORDS + place / 2] >> (place % 2 * 32)) as u32
}

fn set_slot(bucket: &mut Bucket, place: usize, slot: u32) {
    let shift = place % 2 * 32;
    let word = &mut bucket.0[SLOT_WORDS + place / 2];
    *word = *word & !(0xffff_ffff << shift) | u64::from(slot) << shift;
}

/// How many entries whose way leads through this bucket are in a later one.
fn passed(bucket: &Bucket) -> u32 {
    (bucket.0[SLOT_WORDS - 1] >> 32) as u32
}

fn set_passed(bucket: &mut Bucket, count: u32) {
    let word = &mut bucket.0[SLOT_WORDS - 1];
    *word = *word & 0xffff_ffff | u64::from(count) << 32;
}

/// The places whose tag is this one (0: the free ones), the lowest first. A place above a right one may be named wrongly,
/// so the caller compares.
#[inline]
fn candidates(bucket: &Bucket, tag: u64) -> impl Iterator<Item = usize> + use<> {
    let mut found = [0_u64; SLOT_WORDS];
    for ((bits, word), mask) in found.iter_mut().zip(&bucket.0).zip(TAGS_OF) {
        let difference = (word & mask | !mask) ^ (tag * LOW);
        *bits = difference.wrapping_sub(LOW) & !difference & HIGH & mask;
    }
    // One bit for each place: bits 15, 31, 47 and 63 of a word are its four.
    let mut bits = 0_u64;
    for (word, place) in found.into_iter().zip([0, 4, 8]) {
        bits |= ((word >> 15).wrapping_mul(0x1000_2000_4000_8000) >> 60 & 0xf) << place;
    }
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (place < ENTRIES).then_some(place)
    })
}

impl Default for Index {
    fn default() -> Self {
        Self { regions: std::iter::repeat_with(Region::default).take(1 << REGION_BITS).collect(), len: 0 }
    }
}

impl Region {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> 16) as usize & self.buckets.len().wrapping_sub(1)
    }

    fn is_full(&self) -> bool {
        self.len >= self.buckets.len() * FULL
    }

    fn next(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    #[inline]
    fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<(Place, u32)> {
        let mut at = self.home(hash);
        // A chain of full buckets is never longer than the region.
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(at)?;
            for place in candidates(bucket, tag(hash)) {
                let slot = slot_at(bucket, place);
                if tag_at(bucket, place) == tag(hash) && is_it(slot) {
                    return Some(((at, place), slot));
                }
            }
            if passed(bucket) == 0 {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    fn put(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        loop {
            let next = self.next(at);
            let bucket = &mut self.buckets[at];
            if let Some(place) = candidates(bucket, 0).find(|place| tag_at(bucket, *place) == 0) {
                set_tag(bucket, place, tag(hash));
                set_slot(bucket, place, slot);
                self.len += 1;
                return;
            }
            set_passed(bucket, passed(bucket) + 1);
            at = next;
        }
    }

    fn take(&mut self, hash: u64, (found, place): Place) {
        let mut at = self.home(hash);
        while at != found {
            let next = self.next(at);
            let bucket = &mut self.buckets[at];
            set_passed(bucket, passed(bucket) - 1);
            at = next;
        }
        set_tag(&mut self.buckets[found], place, 0);
        self.len -= 1;
    }

    fn grow(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let buckets = (self.buckets.len() * 2).max(1);
        let old = std::mem::replace(self, Self { buckets: vec![Bucket([0; BUCKET]); buckets], len: 0 });
        let mut moved = Vec::with_capacity(TOGETHER * ENTRIES);
        for buckets in old.buckets.chunks(TOGETHER) {
            // Their keys are read one after another, so that they wait for memory together.
            moved.clear();
            for bucket in buckets {
                let used = (0..ENTRIES).filter(|place| tag_at(bucket, *place) != 0);
                moved.extend(used.map(|place| slot_at(bucket, place)).map(|slot| (hash_of(slot), slot)));
            }
            for (hash, slot) in &moved {
                self.put(*hash, *slot);
            }
        }
    }
}

impl Index {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The most bytes that it takes for so many: a region has doubled just now, and each has a bucket.
    pub(super) fn most_bytes(entries: usize) -> usize {
        entries * size_of::<Bucket>() / (FULL / 2) + (1 << REGION_BITS) * size_of::<Bucket>()
    }

    #[inline]
    fn region(&self, hash: u64) -> &Region {
        &self.regions[(hash >> (u64::BITS - REGION_BITS)) as usize]
    }

    /// The slot of this hash that is the one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.region(hash).find(hash, is_it).map(|(_, slot)| slot)
    }

    /// Reads the line where this hash is looked up, so that it is in the cache when it is.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        let region = self.region(hash);
        region.buckets.get(region.home(hash)).map_or(0, |bucket| bucket.0[0])
    }

    /// A slot that this hash may stand for, without comparing keys.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        let region = self.region(hash);
        let bucket = region.buckets.get(region.home(hash))?;
        candidates(bucket, tag(hash)).next().map(|place| slot_at(bucket, place))
    }

    /// Adds a slot that is not in it. `hash_of` gives the hash of those that are.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let region = &mut self.regions[(hash >> (u64::BITS - REGION_BITS)) as usize];
        if region.is_full() {
            region.grow(&hash_of);
        }
        region.put(hash, slot);
        self.len += 1;
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let region = &mut self.regions[(hash >> (u64::BITS - REGION_BITS)) as usize];
        if let Some((place, _)) = region.find(hash, |found| found == slot) {
            region.take(hash, place);
            self.len -= 1;
        }
    }
}

#[cfg(test)]
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
                let buckets: usize = index.regions.iter().map(|region| region.buckets.len()).sum();
                prop_assert!(buckets * size_of::<Bucket>() <= Index::most_bytes(most));
            }
            for key in naive.keys() {
                prop_assert_eq!(index.find(crowded(*key), |slot| slot == *key), Some(*key));
                index.remove(crowded(*key), *key);
            }
            let is_clean = |bucket: &Bucket| passed(bucket) == 0 && (0..ENTRIES).all(|place| tag_at(bucket, place) == 0);
            prop_assert!(index.regions.iter().flat_map(|region| &region.buckets).all(is_clean));
        }
    }
}
