//! Values as bytes, for columns of a table: the Postcard of a checkpoint's parts, one value at a time.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Appends a value.
pub fn put(into: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    // A vector takes any bytes, and no value here has an unknown length.
    postcard::to_extend(value, into).unwrap_or_default()
}

/// Reads a value, and leaves the bytes behind it; None where there is none of the type.
pub fn get<'a, T: Deserialize<'a>>(from: &mut &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(from).ok()?;
    *from = rest;
    Some(value)
}

/// The value that is all of the bytes; None where they are another.
pub fn whole<T: DeserializeOwned>(mut bytes: &[u8]) -> Option<T> {
    get(&mut bytes).filter(|_| bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_behind_each_other() {
        let bytes = put(put(Vec::new(), &7_u64), &Some(-1_i8));
        let mut rest = bytes.as_slice();
        assert_eq!((get(&mut rest), get(&mut rest)), (Some(7_u64), Some(Some(-1_i8))));
        assert_eq!((get::<u8>(&mut rest), whole::<u64>(&bytes), whole(&bytes[..1])), (None, None, Some(7_u64)));
    }
}
