//! Floats as PostgreSQL prints them.
//!
//! With `extra_float_digits` above zero, the shortest digits that read back as the same number, in
//! fixed notation while the exponent lies in the type's precision, else as `1e+20`. Otherwise C's
//! `%g` with the type's sure digits, plus `extra_float_digits`.

use super::integer::{put_padded, put_u64};

/// Digits that survive a round trip through text: `FLT_DIG` and `DBL_DIG`.
const SINGLE_DIGITS: i32 = 6;
const DOUBLE_DIGITS: i32 = 15;

/// Appends a `float8`.
pub(super) fn put_f64(out: &mut Vec<u8>, value: f64, extra_digits: i32) {
    if !value.is_finite() {
        return put_special(out, value);
    }
    if extra_digits > 0 {
        let mut shortest = shortest(&value);
        if value.abs() >= DOUBLE_INTEGERS {
            let neighbours = [value.abs().next_down() as u128, value.abs().next_up() as u128];
            shortest.leave_middle(value.abs() as u128, neighbours, value, |text| text.parse() == Ok(value));
        }
        shortest.put(out, DOUBLE_DIGITS);
    } else {
        put_general(out, value, (DOUBLE_DIGITS + extra_digits).max(1));
    }
}

/// Appends a `float4`.
pub(super) fn put_f32(out: &mut Vec<u8>, value: f32, extra_digits: i32) {
    if !value.is_finite() {
        return put_special(out, value.into());
    }
    if extra_digits > 0 {
        let mut shortest = shortest(&value);
        if value.abs() >= SINGLE_INTEGERS {
            let neighbours = [value.abs().next_down() as u128, value.abs().next_up() as u128];
            shortest.leave_middle(value.abs() as u128, neighbours, value.into(), |text| {
                text.parse() == Ok(value)
            });
        }
        shortest.put(out, SINGLE_DIGITS);
    } else {
        put_general(out, value.into(), (SINGLE_DIGITS + extra_digits).max(1));
    }
}

fn put_special(out: &mut Vec<u8>, value: f64) {
    let text = match value {
        value if value.is_nan() => "NaN",
        value if value < 0.0 => "-Infinity",
        _ => "Infinity",
    };
    out.extend_from_slice(text.as_bytes());
}

/// The shortest digits of a finite number.
///
/// They come from the JSON writer, which has the fastest generator of shortest digits in the build.
fn shortest(value: &impl serde::Serialize) -> Decimal {
    let mut buffer = [0; 40];
    let mut rest = buffer.as_mut_slice();
    serde_json::to_writer(&mut rest, value).expect("a finite number is shorter than 40 bytes");
    let unused = rest.len();
    let length = buffer.len() - unused;
    Decimal::parse(&buffer[..length])
}

/// Appends `%.{digits}g`.
fn put_general(out: &mut Vec<u8>, value: f64, digits: i32) {
    let text = format!("{value:.*e}", digits as usize - 1);
    Decimal::parse(text.as_bytes()).put(out, digits);
}

/// From here on, all numbers of a type are integers.
const SINGLE_INTEGERS: f32 = 16_777_216.0;
const DOUBLE_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// A number as its significant digits, the first of which has the weight 10^`exponent`.
struct Decimal {
    negative: bool,
    digits: [u8; 40],
    len: usize,
    exponent: i32,
}

impl Decimal {
    /// Reads `-12.5`, `1e20`, `0.001`, `1.5e-7`: any finite number with at most 40 digits.
    fn parse(text: &[u8]) -> Self {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let mut number = Self { negative, digits: [0; 40], len: 0, exponent: -1 };
        let mut integral = true;
        let mut scientific = 0;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'.' => integral = false,
                b'e' | b'E' => {
                    scientific = parse_exponent(&text[at + 1..]);
                    break;
                }
                digit => number.push(*digit, integral),
            }
        }
        number.exponent += scientific;
        while number.len > 0 && number.digits[number.len - 1] == b'0' {
            number.len -= 1;
        }
        number
    }

    /// Takes more digits where these stand just in the middle between two floats: they read back as
    /// the even one, but PostgreSQL leaves no doubt. Only among large integers is the middle shorter.
    fn leave_middle(
        &mut self,
        magnitude: u128,
        neighbours: [u128; 2],
        value: f64,
        reads_back: impl Fn(&str) -> bool,
    ) {
        let is_middle = |number: &Self| {
            let twice = number.integer().and_then(|integer| integer.checked_mul(2));
            twice.is_some_and(|twice| {
                neighbours.iter().any(|next| magnitude.checked_add(*next) == Some(twice))
            })
        };
        for digits in self.len..17 {
            if !is_middle(self) {
                return;
            }
            let text = format!("{value:.digits$e}");
            if reads_back(&text) {
                *self = Self::parse(text.as_bytes());
            }
        }
    }

    /// The absolute value, if it is an integer of less than 128 bits.
    fn integer(&self) -> Option<u128> {
        let zeros = u32::try_from(self.exponent + 1 - self.len as i32).ok()?;
        let digits = self.digits[..self.len].iter();
        let digits = digits.fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        digits.checked_mul(10_u128.checked_pow(zeros)?)
    }

    fn push(&mut self, digit: u8, integral: bool) {
        if self.len == 0 && digit == b'0' {
            self.exponent -= i32::from(!integral);
            return;
        }
        self.digits[self.len] = digit;
        self.len += 1;
        self.exponent += i32::from(integral);
    }

    /// Appends it in fixed notation while `-4 <= exponent < fixed_digits`, else in scientific.
    fn put(&self, out: &mut Vec<u8>, fixed_digits: i32) {
        if self.negative {
            out.push(b'-');
        }
        let digits = &self.digits[..self.len];
        match self.exponent {
            _ if digits.is_empty() => out.push(b'0'),
            exponent @ -4..0 => {
                out.extend_from_slice(&b"0.0000"[..(1 - exponent) as usize]);
                out.extend_from_slice(digits);
            }
            exponent if (0..fixed_digits).contains(&exponent) => {
                put_fixed(out, digits, exponent as usize + 1)
            }
            exponent => put_scientific(out, digits, exponent),
        }
    }
}

fn parse_exponent(text: &[u8]) -> i32 {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    sign * digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'))
}

fn put_fixed(out: &mut Vec<u8>, digits: &[u8], integral: usize) {
    if digits.len() <= integral {
        out.extend_from_slice(digits);
        out.resize(out.len() + integral - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..integral]);
        out.push(b'.');
        out.extend_from_slice(&digits[integral..]);
    }
}

fn put_scientific(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    put_fixed(out, digits, 1);
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    match exponent.unsigned_abs() {
        short @ 0..100 => put_padded(out, short, 2),
        long => put_u64(out, long.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64, extra_digits: i32) -> String {
        let mut out = Vec::new();
        put_f64(&mut out, value, extra_digits);
        String::from_utf8(out).unwrap()
    }

    fn single(value: f32) -> String {
        let mut out = Vec::new();
        put_f32(&mut out, value, 1);
        String::from_utf8(out).unwrap()
    }

    /// Each text is what PostgreSQL 15 prints for the number.
    #[test]
    fn floats_print_as_in_postgres() {
        let doubles = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (100_000.0, "100000"),
            (123_456_789_012_345.0, "123456789012345"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (1e15, "1e+15"),
            (1_234_567_890_123_456.0, "1.234567890123456e+15"),
            (1e20, "1e+20"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, text) in doubles {
            assert_eq!(double(value, 1), text);
        }
        for (value, text) in [
            (0.1, "0.1"),
            (1e6, "1e+06"),
            (123_456.0, "123456"),
            (1.0e-5, "1e-05"),
            (132_580_464.0, "1.32580464e+08"),
        ] {
            assert_eq!(single(value), text);
        }
        assert_eq!(single(f32::MAX), "3.4028235e+38");
    }

    #[test]
    fn fewer_digits_round_as_in_c() {
        assert_eq!(double(0.1 + 0.2, 0), "0.3");
        assert_eq!(double(1.0 / 3.0, -10), "0.33333");
        assert_eq!(double(123_456.0, -12), "1.23e+05");
        assert_eq!(double(1e15, 0), "1e+15");
    }
}
