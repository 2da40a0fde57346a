//! The Internet checksum (RFC 1071) and SCTP's CRC32c (RFC 9260 appendix A).

use super::{Family, FiveTuple};

/// Running one's complement sum (RFC 1071).
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Sum of the pseudo-header of IPv4 (RFC 9293 section 3.1) or IPv6 (RFC 8200 section 8.1).
    pub fn pseudo(tuple: &FiveTuple, length: usize) -> Self {
        let mut sum = Self(u64::from(tuple.proto) + length as u64);
        for address in [tuple.src.0, tuple.dst.0] {
            match tuple.family {
                Family::V4 => sum.add(&(address as u32).to_be_bytes()),
                Family::V6 => sum.add(&address.to_be_bytes()),
            }
        }
        sum
    }

    /// Add bytes that begin at an even offset.
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<4>();
        // Sums of 32-bit words fold to the same 16 bits; 2^32 words would have to come before the u64 overflows.
        for word in words {
            self.0 += u64::from(u32::from_be_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.0 += u64::from(u32::from_be_bytes(last));
    }

    /// Verify the sum of data that include their checksum.
    pub fn is_valid(self) -> bool {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }
}

/// Verify `bytes`, a header or message that includes its checksum.
pub(super) fn verify(bytes: &[u8]) -> bool {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.is_valid()
}

const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;

const CRC32C_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ CRC32C_POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC32c over the concatenation of `parts`.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ CRC32C_TABLE[usize::from(crc as u8 ^ byte)];
    !parts.iter().flat_map(|part| part.iter()).fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string() {
        assert_eq!(crc32c(&[b"12345", b"6789"]), 0xe306_9283);
    }

    #[test]
    fn internet_checksum_of_rfc_1071() {
        // RFC 1071 section 3: these words sum to ddf2, so their checksum is 220d.
        let mut message = vec![0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert!(!verify(&message));
        message.extend([0x22, 0x0d]);
        assert!(verify(&message));
        message.push(0);
        assert!(verify(&message), "an odd zero byte changes nothing");
    }
}
