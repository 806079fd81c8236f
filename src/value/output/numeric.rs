//! Numerics: unscaled integers and a scale, as text and in PostgreSQL's base 10,000.
//!
//! Numbers that fit 64 bits, nearly all in practice, take a path without 128-bit division; the others
//! go through their decimal digits, so that 256 bits are no special case.

use arrow::datatypes::i256;

use super::cells::spill;
use super::integer::{EIGHT, leading_zeros, packed_digits, put_u128, write_padded, write_u64};

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
/// The most digits of the binary form.
const GROUPS: usize = 24;
/// Decimal digits in one digit of the binary form.
const GROUP: usize = 4;

/// Powers of ten that fit 64 bits.
const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut at = 1;
    while at < 20 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// A numeric's absolute value, with the digits that no 128 bits hold as text.
pub(super) trait Magnitude: Copy {
    fn is_negative(self) -> bool;
    /// The absolute value, if 64 bits hold it.
    fn small(self) -> Option<u64>;
    /// Appends the digits of the absolute value.
    fn put_digits(self, out: &mut Vec<u8>);
}

impl Magnitude for i128 {
    #[inline]
    fn is_negative(self) -> bool {
        self < 0
    }

    #[inline]
    fn small(self) -> Option<u64> {
        u64::try_from(self.unsigned_abs()).ok()
    }

    fn put_digits(self, out: &mut Vec<u8>) {
        put_u128(out, self.unsigned_abs());
    }
}

impl Magnitude for i256 {
    fn is_negative(self) -> bool {
        self < Self::ZERO
    }

    fn small(self) -> Option<u64> {
        self.to_i128().and_then(Magnitude::small)
    }

    fn put_digits(self, out: &mut Vec<u8>) {
        let text = self.to_string();
        out.extend_from_slice(text.trim_start_matches('-').as_bytes());
    }
}

/// The room for a numeric of at most 128 bits as text, and the scales for which it is enough.
pub(super) const TEXT_BYTES: usize = 48;
pub(super) const SHORT_SCALES: std::ops::RangeInclusive<i8> = 0..=38;
/// The room for a numeric in binary.
pub(super) const BINARY_BYTES: usize = 8 + 2 * GROUPS;

/// Writes a numeric as text, with as many decimals as `scale`, one of [`SHORT_SCALES`], says.
#[inline]
pub(super) fn write_text(room: &mut [u8; TEXT_BYTES], value: i128, scale: i8) -> usize {
    let (Some(small), 0..=7) = (value.small(), scale) else {
        return spill(room, |out| put_text(out, value, scale));
    };
    let scale = scale as usize;
    if small >= EIGHT {
        return write_longer_text(room, value < 0, small, scale);
    }
    let digits = packed_digits(small as u32);
    // At least one digit stands before the point.
    let leading = leading_zeros(digits).min(7 - scale);
    room[0] = b'-';
    let start = usize::from(value < 0);
    let point = start + 8 - scale - leading;
    room[start..start + 8].copy_from_slice(&(digits >> (leading * 8)).to_le_bytes());
    if scale == 0 {
        return point;
    }
    room[point] = b'.';
    room[point + 1..point + 9].copy_from_slice(&(digits >> ((8 - scale) * 8)).to_le_bytes());
    point + 1 + scale
}

/// Writes a numeric of more than eight digits, whose decimals are at most seven.
fn write_longer_text(room: &mut [u8; TEXT_BYTES], negative: bool, digits: u64, scale: usize) -> usize {
    room[0] = b'-';
    let start = usize::from(negative);
    let point = start + write_u64(&mut room[start..], digits / POWERS[scale]);
    if scale == 0 {
        return point;
    }
    room[point] = b'.';
    point + 1 + write_padded(&mut room[point + 1..], (digits % POWERS[scale]) as u32, scale)
}

/// Appends a numeric as text, with as many decimals as `scale` says.
pub(super) fn put_text(out: &mut Vec<u8>, value: impl Magnitude, scale: i8) {
    if value.is_negative() {
        out.push(b'-');
    }
    let start = out.len();
    value.put_digits(out);
    let length = out.len() - start;
    let places = usize::from(scale.unsigned_abs());
    if scale < 0 {
        if out[start..] != *b"0" {
            out.resize(out.len() + places, b'0');
        }
        return;
    }
    if length <= places {
        out.splice(start..start, std::iter::repeat_n(b'0', places + 1 - length));
    }
    if places > 0 {
        out.insert(out.len() - places, b'.');
    }
}

/// Writes a numeric in binary: counts, then digits of base 10,000 without zeros at either end.
#[inline]
pub(super) fn write_binary(room: &mut [u8; BINARY_BYTES], value: impl Magnitude, scale: i8) -> usize {
    let sign = if value.is_negative() { NEGATIVE } else { POSITIVE };
    let mut groups = [0; GROUPS];
    let (count, weight) = match small_groups(value, scale, &mut groups) {
        Some(found) => found,
        None => wide_groups(value, scale, &mut groups),
    };
    room[..2].copy_from_slice(&(count as u16).to_be_bytes());
    room[2..4].copy_from_slice(&weight.to_be_bytes());
    room[4..6].copy_from_slice(&sign.to_be_bytes());
    room[6..8].copy_from_slice(&u16::from(scale.max(0).unsigned_abs()).to_be_bytes());
    for (group, digits) in groups[..count].iter().zip(room[8..].chunks_exact_mut(2)) {
        digits.copy_from_slice(&group.to_be_bytes());
    }
    8 + 2 * count
}

/// The groups of a number that fits 64 bits with its decimals padded to whole groups.
///
/// Returns how many there are and the weight of the first, `None` when it does not fit.
fn small_groups(value: impl Magnitude, scale: i8, groups: &mut [u16; GROUPS]) -> Option<(usize, i16)> {
    let scale = usize::try_from(scale).ok()?;
    let padding = scale.next_multiple_of(GROUP) - scale;
    let mut rest = value.small()?.checked_mul(POWERS[padding])?;
    if rest == 0 {
        return Some((0, 0));
    }
    let mut weight = -((scale + padding) as i16 / GROUP as i16);
    while rest % 10_000 == 0 {
        rest /= 10_000;
        weight += 1;
    }
    let mut count = 0;
    while rest > 0 {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    groups[..count].reverse();
    Some((count, weight + count as i16 - 1))
}

/// The same for a number of any size.
fn wide_groups(value: impl Magnitude, scale: i8, groups: &mut [u16; GROUPS]) -> (usize, i16) {
    let mut digits = Vec::with_capacity(96);
    value.put_digits(&mut digits);
    if digits == b"0" {
        return (0, 0);
    }
    if scale < 0 {
        digits.resize(digits.len() + usize::from(scale.unsigned_abs()), b'0');
    }
    // Pads on both sides, so that a group ends at the decimal point.
    let places = usize::from(scale.max(0).unsigned_abs());
    let padded = places.next_multiple_of(GROUP);
    digits.resize(digits.len() + padded - places, b'0');
    let front = digits.len().next_multiple_of(GROUP) - digits.len();
    digits.splice(0..0, std::iter::repeat_n(b'0', front));
    let mut found: Vec<u16> = digits.chunks(GROUP).map(group_of).collect();
    let mut weight = found.len() as i16 - (padded / GROUP) as i16 - 1;
    let leading = found.iter().take_while(|group| **group == 0).count();
    found.drain(..leading);
    weight -= leading as i16;
    while found.last() == Some(&0) {
        found.pop();
    }
    // 76 digits and up to 128 zeros: trailing zeros are gone, so 20 groups are the most.
    groups[..found.len()].copy_from_slice(&found);
    (found.len(), weight)
}

fn group_of(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: impl Magnitude, scale: i8) -> String {
        let mut out = Vec::new();
        put_text(&mut out, value, scale);
        String::from_utf8(out).unwrap()
    }

    fn binary(value: impl Magnitude, scale: i8) -> Vec<i16> {
        let mut room = [0; BINARY_BYTES];
        let length = write_binary(&mut room, value, scale);
        room[..length].chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn text_has_every_decimal() {
        assert_eq!(text(12_340_i128, 2), "123.40");
        assert_eq!(text(-5_i128, 2), "-0.05");
        assert_eq!(text(0_i128, 4), "0.0000");
        assert_eq!(text(7_i128, 20), "0.00000000000000000007");
        assert_eq!(text(7_i128, -3), "7000");
        assert_eq!(text(0_i128, -3), "0");
        assert_eq!(text(i128::MAX, 10), "17014118346046923173168730371.5884105727");
        assert_eq!(text(i128::MIN, 0), "-170141183460469231731687303715884105728");
        assert_eq!(text(i256::from_i128(-12_345), 3), "-12.345");
        let wide = i256::from_string(&"9".repeat(76)).unwrap();
        assert_eq!(text(wide, 38), format!("{}.{}", "9".repeat(38), "9".repeat(38)));
    }

    #[test]
    fn short_texts_agree_with_long_ones() {
        let mut value = 1_i128;
        while let Some(next) = value.checked_mul(-7) {
            for scale in SHORT_SCALES {
                let mut room = [0; TEXT_BYTES];
                let length = write_text(&mut room, value, scale);
                assert_eq!(std::str::from_utf8(&room[..length]).unwrap(), text(value, scale));
            }
            value = next + 3;
        }
    }

    /// Fields: number of digits, weight, sign, display scale, digits; as `numeric_send` gives them.
    #[test]
    fn binary_is_in_base_ten_thousand() {
        assert_eq!(binary(12_340_i128, 2), [2, 0, 0, 2, 123, 4000]);
        assert_eq!(binary(-5_i128, 2), [1, -1, 0x4000, 2, 500]);
        assert_eq!(binary(0_i128, 2), [0, 0, 0, 2]);
        assert_eq!(binary(100_000_000_i128, 0), [1, 2, 0, 0, 1]);
        assert_eq!(binary(1_i128, 8), [1, -2, 0, 8, 1]);
        assert_eq!(binary(7_i128, -3), [1, 0, 0, 0, 7000]);
        assert_eq!(binary(7_i128, -128).len(), 5);
    }

    #[test]
    fn both_ways_to_groups_agree() {
        for scale in 0..=18 {
            let mut value = 1_i128;
            while value < 1_000_000_000_000_000 {
                let (mut small, mut wide) = ([0; GROUPS], [0; GROUPS]);
                let Some(found) = small_groups(value, scale, &mut small) else { break };
                assert_eq!(found, wide_groups(value, scale, &mut wide), "{value} at {scale}");
                assert_eq!(small, wide);
                value = value * 7 + i128::from(scale);
            }
        }
    }
}
