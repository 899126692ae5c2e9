//! A hash that is the same on every machine and after every restart: what `std`'s is not meant to be.

/// FNV-1a, then [`mix`]: FNV alone leaves the upper bits of short texts that differ in their last byte alike, and a ring
/// is ordered by them. Not keyed: who chooses what is hashed can choose where it falls.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    mix(fnv_1a(bytes))
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The last step of SplitMix64: a bijection in which each bit of `n` changes about half the bits of the result.
pub(super) fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_fnv_1a() {
        for (text, expected) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv_1a(text.as_bytes()), expected, "{text}");
        }
    }

    /// SplitMix64 with seed 0, from its published sequence.
    #[test]
    fn is_splitmix() {
        let step: u64 = 0x9e37_79b9_7f4a_7c15;
        assert_eq!(mix(step), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(step.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
    }
}
