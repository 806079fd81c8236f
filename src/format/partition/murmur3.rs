//! Murmur3, 32 bits, x86 variant, seed 0: the hash of Iceberg's bucket transform.

/// Hashes `bytes`.
///
/// Source: <https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp>
pub(super) fn hash_bytes(bytes: &[u8]) -> i32 {
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = 0u32;
    for block in blocks {
        hash = (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13);
        hash = hash.wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let last = tail.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    hash ^= scramble(last);
    finish(hash ^ bytes.len() as u32)
}

/// Hashes a number as its eight little-endian bytes, so that an `int` hashes as the equal `long`.
pub(super) fn hash_long(value: i64) -> i32 {
    hash_bytes(&value.to_le_bytes())
}

fn scramble(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn finish(mut hash: u32) -> i32 {
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    (hash ^ hash >> 16).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test values of Iceberg's specification, appendix B.
    #[test]
    fn appendix_b() {
        assert_eq!(hash_long(34), 2_017_239_379);
        assert_eq!(hash_long(17_486), -653_330_422, "date 2017-11-16");
        assert_eq!(hash_long(81_068_000_000), -662_762_989, "time 22:31:08");
        assert_eq!(hash_long(1_510_871_468_000_000), -2_047_944_441, "timestamp 2017-11-16T22:31:08");
        assert_eq!(hash_long(1_510_871_468_000_001), -1_207_196_810, "timestamp …08.000001");
        assert_eq!(hash_bytes(b"iceberg"), 1_210_000_089);
        assert_eq!(hash_bytes(&[0, 1, 2, 3]), -188_683_207);
        assert_eq!(hash_bytes(&[0x05, 0x8c]), -500_754_589, "decimal 14.20");
        let uuid = 0xf79c_3e09_677c_4bbd_a479_3f34_9cb7_85e7_u128.to_be_bytes();
        assert_eq!(hash_bytes(&uuid), 1_488_055_340);
    }
}
