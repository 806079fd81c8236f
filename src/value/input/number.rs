//! Numbers: numerics of any size, on the way to a decimal, a float or an integer.

use arrow::datatypes::{DataType, i256};
use datafusion::common::ScalarValue;

use super::binary::Reader;
use crate::error::{Error, Result};

/// Digits that a decimal of 128 and of 256 bits can hold.
const DIGITS_128: usize = 38;
const DIGITS_256: usize = 76;
/// PostgreSQL's numerics have up to so many digits before the point, and nearly so many after.
const EXPONENT_MAX: i32 = 131_072;

/// A numeric as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Finite {
        negative: bool,
        /// ASCII digits without leading zeros; none for zero.
        digits: Vec<u8>,
        /// How many of the digits stand behind the point; never negative.
        scale: usize,
    },
    NaN,
    Infinity {
        negative: bool,
    },
}

impl Number {
    /// Reads `-12.50`, `.5`, `1e-3`, `NaN`, `infinity`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, body) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        match body.to_ascii_lowercase().as_str() {
            "nan" if body.len() == text.len() => return Some(Self::NaN),
            "infinity" | "inf" => return Some(Self::Infinity { negative }),
            _ => {}
        }
        let (mantissa, exponent) = match body.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (body, 0),
        };
        let (integral, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [integral, fraction].concat().into_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let fits = exponent.abs() <= EXPONENT_MAX;
        fits.then(|| Self::scaled(negative, digits, fraction.len() as i32 - exponent))
    }

    /// A number of which `scale` digits stand behind the point; when negative, zeros follow.
    fn scaled(negative: bool, mut digits: Vec<u8>, scale: i32) -> Self {
        if scale < 0 {
            digits.resize(digits.len() + scale.unsigned_abs() as usize, b'0');
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        Self::Finite { negative, digits, scale: usize::try_from(scale).unwrap_or(0) }
    }

    /// Reads the binary form.
    pub fn receive(reader: &mut Reader) -> Result<Self> {
        let (count, weight) = (reader.u16()?, reader.i16()?);
        let (sign, scale) = (reader.u16()?, reader.u16()?);
        let negative = match sign {
            0x0000 => false,
            0x4000 => true,
            0xc000 => return Ok(Self::NaN),
            0xd000 => return Ok(Self::Infinity { negative: false }),
            0xf000 => return Ok(Self::Infinity { negative: true }),
            _ => return Err(Error::InvalidBinary("invalid sign in external \"numeric\" value".to_owned())),
        };
        let mut digits = Vec::with_capacity(usize::from(count) * 4);
        for _ in 0..count {
            let group = reader.u16()?;
            if group >= 10_000 {
                return Err(Error::InvalidBinary("invalid digit in external \"numeric\" value".to_owned()));
            }
            digits.extend_from_slice(format!("{group:04}").as_bytes());
        }
        let behind_point = (i32::from(count) - i32::from(weight) - 1) * 4;
        let exact = Self::scaled(negative, digits, behind_point);
        Ok(exact.at_scale(usize::from(scale)))
    }

    /// The same number with so many digits behind the point, rounded half away from zero.
    pub fn at_scale(self, wanted: usize) -> Self {
        let Self::Finite { negative, mut digits, scale } = self else { return self };
        if wanted >= scale {
            if !digits.is_empty() {
                digits.resize(digits.len() + wanted - scale, b'0');
            }
            return Self::Finite { negative, digits, scale: wanted };
        }
        let dropped = scale - wanted;
        let kept = digits.len().saturating_sub(dropped);
        let round_up = dropped <= digits.len() && digits[kept] >= b'5';
        digits.truncate(kept);
        if round_up {
            increment(&mut digits);
        }
        Self::Finite { negative, digits, scale: wanted }
    }

    /// Turns it into a scalar of the type `target`; a decimal with too few digits is not one.
    pub fn fit(self, target: &DataType) -> Result<ScalarValue> {
        match target {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Ok(ScalarValue::Float64(Some(self.to_f64()?)).cast_to(target)?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(ScalarValue::Utf8(Some(self.to_string())).cast_to(target)?)
            }
            integer if integer.is_integer() => {
                let whole = self.at_scale(0);
                let value = whole.unscaled().filter(|_| whole.is_finite()).and_then(i256::to_i128);
                let value = value.ok_or_else(|| whole.out_of_range(target))?;
                let wide = ScalarValue::Decimal128(Some(value), DIGITS_128 as u8, 0);
                wide.cast_to(target).map_err(|_| whole.out_of_range(target))
            }
            DataType::Decimal128(precision, scale) => self.decimal(*precision, *scale, DIGITS_128),
            DataType::Decimal256(precision, scale) => self.decimal(*precision, *scale, DIGITS_256),
            other => Ok(self.natural(0)?.cast_to(other)?),
        }
    }

    /// A decimal of the precision and scale asked for where it holds every digit, else of its own.
    fn decimal(self, precision: u8, scale: i8, digits_max: usize) -> Result<ScalarValue> {
        let shortest = self.trimmed();
        let exact = usize::try_from(scale).ok().filter(|wanted| shortest.scale() <= *wanted);
        let fitted = exact.map(|wanted| shortest.at_scale(wanted));
        let fitted = fitted.filter(|fitted| fitted.digits() <= usize::from(precision));
        match fitted.and_then(|fitted| fitted.unscaled()) {
            Some(unscaled) if digits_max == DIGITS_128 => {
                Ok(ScalarValue::Decimal128(unscaled.to_i128(), precision, scale))
            }
            Some(unscaled) => Ok(ScalarValue::Decimal256(Some(unscaled), precision, scale)),
            None => self.natural(digits_max),
        }
    }

    /// A decimal of its own precision and scale, in 256 bits if 128 do not hold it or are not wanted.
    fn natural(self, digits_max: usize) -> Result<ScalarValue> {
        let integral = self.digits().saturating_sub(self.scale());
        let scale = self.scale().min(DIGITS_256.saturating_sub(integral));
        let rounded = self.at_scale(scale);
        let precision = rounded.digits().max(scale).max(1);
        let unscaled = rounded.unscaled().filter(|_| precision <= DIGITS_256);
        let Some(unscaled) = unscaled else {
            return Err(Error::OutOfRange(format!(
                "a numeric of more than {DIGITS_256} digits, or not finite"
            )));
        };
        let (precision, scale) = (precision as u8, scale as i8);
        match unscaled.to_i128() {
            Some(narrow) if usize::from(precision) <= DIGITS_128 && digits_max != DIGITS_256 => {
                Ok(ScalarValue::Decimal128(Some(narrow), precision, scale))
            }
            _ => Ok(ScalarValue::Decimal256(Some(unscaled), precision, scale)),
        }
    }

    /// The same number without zeros behind the point that say nothing.
    fn trimmed(&self) -> Self {
        let Self::Finite { negative, digits, scale } = self else { return self.clone() };
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        let dropped = if digits.is_empty() { *scale } else { zeros.min(*scale) };
        let kept = digits.len().saturating_sub(dropped);
        Self::Finite { negative: *negative, digits: digits[..kept].to_vec(), scale: scale - dropped }
    }

    /// The digits as one signed integer; `None` when 256 bits do not hold them, or it is not finite.
    pub fn unscaled(&self) -> Option<i256> {
        let Self::Finite { negative, digits, .. } = self else { return None };
        if digits.len() > DIGITS_256 {
            return None;
        }
        let magnitude = digits.iter().try_fold(i256::ZERO, |sum, digit| {
            sum.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(i128::from(digit - b'0')))
        })?;
        if *negative { magnitude.checked_neg() } else { Some(magnitude) }
    }

    fn to_f64(&self) -> Result<f64> {
        let value = match self {
            Self::NaN => f64::NAN,
            Self::Infinity { negative: true } => f64::NEG_INFINITY,
            Self::Infinity { negative: false } => f64::INFINITY,
            finite => {
                let value = finite.to_string().parse().unwrap_or(f64::INFINITY);
                if f64::is_infinite(value) {
                    return Err(self.out_of_range(&DataType::Float64));
                }
                value
            }
        };
        Ok(value)
    }

    pub fn is_finite(&self) -> bool {
        matches!(self, Self::Finite { .. })
    }

    pub fn digits(&self) -> usize {
        if let Self::Finite { digits, .. } = self { digits.len() } else { 0 }
    }

    fn scale(&self) -> usize {
        if let Self::Finite { scale, .. } = self { *scale } else { 0 }
    }

    fn out_of_range(&self, target: &DataType) -> Error {
        Error::OutOfRange(format!("value \"{self}\" is out of range for type {target}"))
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NaN => f.write_str("NaN"),
            Self::Infinity { negative } => f.write_str(if *negative { "-Infinity" } else { "Infinity" }),
            Self::Finite { negative, digits, scale } => {
                let sign = if *negative && !digits.is_empty() { "-" } else { "" };
                let text = String::from_utf8_lossy(digits);
                let padded = format!("{text:0>width$}", width = scale + 1);
                let (integral, fraction) = padded.split_at(padded.len() - scale);
                let point = if *scale > 0 { "." } else { "" };
                write!(f, "{sign}{integral}{point}{fraction}")
            }
        }
    }
}

/// Adds one to a number in ASCII digits.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(text: &str, target: &DataType) -> String {
        match Number::parse(text).unwrap().fit(target) {
            Ok(ScalarValue::Decimal128(Some(value), precision, scale)) => {
                format!("{value} ({precision},{scale})")
            }
            Ok(ScalarValue::Decimal256(Some(value), precision, scale)) => {
                format!("{value} wide ({precision},{scale})")
            }
            Ok(other) => other.to_string(),
            Err(error) => error.sqlstate().to_owned(),
        }
    }

    #[test]
    fn decimals_keep_every_digit() {
        let price = DataType::Decimal128(15, 2);
        assert_eq!(fit("12.5", &price), "1250 (15,2)");
        assert_eq!(fit("-12.500", &price), "-1250 (15,2)");
        assert_eq!(fit("0.000", &price), "0 (15,2)");
        assert_eq!(fit("1e3", &price), "100000 (15,2)");
        assert_eq!(fit("12.345", &price), "12345 (5,3)", "no rounding to the column's scale");
        assert_eq!(fit("12345678901234567", &price), "12345678901234567 (17,0)");
        assert_eq!(fit("0.00007", &price), "7 (5,5)");
        assert_eq!(fit(&"9".repeat(39), &price), format!("{} wide (39,0)", "9".repeat(39)));
        assert_eq!(fit(&"9".repeat(77), &price), "22003");
        assert_eq!(fit("NaN", &price), "22003");
        assert_eq!(fit("7", &DataType::Decimal256(76, 1)), "70 wide (76,1)");
    }

    #[test]
    fn numerics_become_floats_and_integers() {
        assert_eq!(fit("1e-3", &DataType::Float64), "0.001");
        assert_eq!(fit("-Infinity", &DataType::Float32), "-inf");
        assert_eq!(fit("1e400", &DataType::Float64), "22003");
        assert_eq!(fit("2.5", &DataType::Int32), "3");
        assert_eq!(fit("-0.5", &DataType::Int32), "-1");
        assert_eq!(fit("99.5", &DataType::Int32), "100");
        assert_eq!(fit("18446744073709551615", &DataType::UInt64), "18446744073709551615");
        assert_eq!(fit("3000000000", &DataType::Int32), "22003");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "1.2.3", "1e", "e5", ".", "1 2", "-nan", "0x10", "1e999999"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }
}
