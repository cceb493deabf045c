//! What is sent where nobody minds what: always the same bytes, so that two runs are alike.

/// Bytes without a short period, so that a shifted or repeated piece is noticed.
pub(super) fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        // Marsaglia's xorshift, "Xorshift RNGs", 2003.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(count).collect()
}
