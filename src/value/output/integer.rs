//! Integers as decimal digits, eight at a time.
//!
//! The digits of a number below 10^8 are computed side by side in one register, so that a short number
//! costs three multiplications and no loop. `write_` functions write to the start of a room that is
//! large enough, zeros and all, and return the length; `put_` functions append to a buffer.

/// The longest number of 64 bits, sign included, and the room that its digits are written to.
pub(super) const LONGEST: usize = 24;

const ZEROS: u64 = 0x3030_3030_3030_3030;
/// The first number of nine digits.
pub(super) const EIGHT: u64 = 100_000_000;

/// The eight digits of `value`, zero-padded, as ASCII in the order of the text.
///
/// `value` is below 10^8.
#[inline]
pub(super) fn eight_digits(value: u32) -> [u8; 8] {
    packed_digits(value).to_le_bytes()
}

/// The same with the first digit in the lowest byte.
#[inline]
pub(super) fn packed_digits(value: u32) -> u64 {
    debug_assert!(u64::from(value) < EIGHT);
    let value = u64::from(value);
    // Two lanes of four digits, then four of two, then eight of one.
    let fours = (value / 10_000) | ((value % 10_000) << 32);
    let high = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = high | ((fours - high * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    (tens | ((twos - tens * 10) << 8)) | ZEROS
}

/// How many of eight digits are zeros before the first other one.
#[inline]
pub(super) fn leading_zeros(packed: u64) -> usize {
    ((packed ^ ZEROS).trailing_zeros() / 8) as usize
}

/// Appends the last `width` (at most 8) digits of `value`, zero-padded.
#[inline]
pub(super) fn put_padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let digits = packed_digits(value) >> ((8 - width) * 8);
    out.extend_from_slice(&digits.to_le_bytes()[..width]);
}

/// Writes the last `width` (at most 8) digits of `value`, zero-padded, to a room of 8 bytes or more.
#[inline]
pub(super) fn write_padded(room: &mut [u8], value: u32, width: usize) -> usize {
    let packed = packed_digits(value) >> ((8 - width) * 8);
    room[..8].copy_from_slice(&packed.to_le_bytes());
    width
}

#[inline]
fn write_below_eight(room: &mut [u8], value: u32) -> usize {
    let packed = packed_digits(value);
    // A number has at least one digit, so that the last zero of 0 stays.
    let leading = leading_zeros(packed).min(7);
    room[..8].copy_from_slice(&(packed >> (leading * 8)).to_le_bytes());
    8 - leading
}

/// Writes `value` in decimal to a room of [`LONGEST`] bytes or more.
#[inline]
pub(super) fn write_u64(room: &mut [u8], value: u64) -> usize {
    if value < EIGHT { write_below_eight(room, value as u32) } else { write_long(room, value) }
}

fn write_long(room: &mut [u8], value: u64) -> usize {
    let length = write_u64(room, value / EIGHT);
    room[length..length + 8].copy_from_slice(&eight_digits((value % EIGHT) as u32));
    length + 8
}

/// Writes `value` in decimal to a room of [`LONGEST`] bytes or more.
#[inline]
pub(super) fn write_i64(room: &mut [u8], value: i64) -> usize {
    room[0] = b'-';
    let sign = usize::from(value < 0);
    sign + write_u64(&mut room[sign..], value.unsigned_abs())
}

/// Appends `value` in decimal.
#[inline]
pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    let start = out.len();
    out.extend_from_slice(&[0; LONGEST]);
    let length = write_u64(&mut out[start..], value);
    out.truncate(start + length);
}

/// Appends `value` in decimal.
#[inline]
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    let start = out.len();
    out.extend_from_slice(&[0; LONGEST]);
    let length = write_i64(&mut out[start..], value);
    out.truncate(start + length);
}

/// Appends `value` in decimal.
pub(super) fn put_u128(out: &mut Vec<u8>, value: u128) {
    const SIXTEEN: u128 = 10_000_000_000_000_000;
    match u64::try_from(value) {
        Ok(small) => put_u64(out, small),
        Err(_) => {
            put_u128(out, value / SIXTEEN);
            let low = (value % SIXTEEN) as u64;
            out.extend_from_slice(&eight_digits((low / EIGHT) as u32));
            out.extend_from_slice(&eight_digits((low % EIGHT) as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_agree_with_the_standard_library() {
        let mut value = 1_u64;
        for step in 0..2_000_u64 {
            for value in [value, value - 1, value + step] {
                assert_eq!(text(|out| put_u64(out, value)), value.to_string());
                let wide = u128::from(value) * u128::from(u64::MAX - step);
                assert_eq!(text(|out| put_u128(out, wide)), wide.to_string());
            }
            value = value.wrapping_mul(31).wrapping_add(7) >> (step % 5) | 1;
        }
        for value in [i64::MIN, -1, 0, 9, 10, 99_999_999, 100_000_000, i64::MAX] {
            assert_eq!(text(|out| put_i64(out, value)), value.to_string());
        }
        for value in 0..10_000 {
            assert_eq!(text(|out| put_padded(out, value, 4)), format!("{value:04}"));
        }
    }
}
