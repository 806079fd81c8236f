//! Numerics: quotients, long products and averages with as many decimals as PostgreSQL shows.
//!
//! PostgreSQL's numeric has any number of digits; here it has 38, with the decimals that its type says.
//! A quotient or an average keeps [`DECIMALS`] of them, or as many as went in; a product that would need
//! more than fit beside a whole number of 18 digits keeps those. What does not fit is an error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use arrow::compute::{binary, cast};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int64Type, i256};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::interval::IntervalOperation;
use crate::error::Error;

/// The least decimals of a quotient: PostgreSQL's for one that has up to four digits before the point.
const DECIMALS: i8 = 16;
/// The most decimals of a product before it is rounded.
const PRODUCT_DECIMALS_MAX: i8 = 20;
/// The name of the cast to a numeric of no given precision.
pub const NUMERIC: &str = "numeric";

/// What is done with numerics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumericOperation {
    Divide,
    Multiply,
    /// A sum by a count; the sum can be of any type that has an average.
    Average,
    /// The number as a numeric with the decimals that it has.
    Cast,
}

impl NumericOperation {
    /// The function that does it.
    pub fn function(self) -> Arc<ScalarUDF> {
        let arguments = if self == Self::Cast { 1 } else { 2 };
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Numeric { operation: self, signature }))
    }

    /// The operation that stands in for an operator between these types; none where Arrow's will do.
    pub fn between(divides: bool, left: &DataType, right: &DataType) -> Option<Self> {
        let (a, b) = (decimals(left)?, decimals(right)?);
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
        match divides {
            _ if !is_decimal(left) && !is_decimal(right) => None,
            true => Some(Self::Divide),
            false => (a + b > PRODUCT_DECIMALS_MAX).then_some(Self::Multiply),
        }
    }
}

/// The decimals of an exact number; none for other types.
fn decimals(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal128(_, scale @ 0..) => Some(*scale),
        integer if integer.is_integer() => Some(0),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Numeric {
    operation: NumericOperation,
    signature: Signature,
}

impl ScalarUDFImpl for Numeric {
    fn name(&self) -> &str {
        match self.operation {
            NumericOperation::Divide => "/",
            NumericOperation::Multiply => "*",
            NumericOperation::Average => "avg",
            NumericOperation::Cast => NUMERIC,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if self.operation == NumericOperation::Cast {
            return Ok(as_numeric(&types[0]));
        }
        let other = types.get(1).and_then(decimals).unwrap_or_default();
        match (decimals(&types[0]), self.operation) {
            (Some(own), NumericOperation::Average) => Ok(numeric(own.max(DECIMALS))),
            (Some(own), _) => Ok(numeric(own.max(other).max(DECIMALS))),
            (None, NumericOperation::Average) => match &types[0] {
                DataType::Float64 | DataType::Interval(_) => Ok(types[0].clone()),
                DataType::Null => Ok(numeric(DECIMALS)),
                other => plan_err!("function avg({other}) does not exist"),
            },
            _ => plan_err!("no operator {} for {}", self.name(), types[0]),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_type().clone();
        let first = args.args[0].data_type();
        match (&data_type, self.operation) {
            (_, NumericOperation::Cast) => args.args[0].cast_to(&data_type, None),
            (DataType::Float64, _) => {
                let counts = args.args[1].cast_to(&DataType::Float64, None)?;
                let pair = ColumnarValue::values_to_arrays(&[args.args[0].clone(), counts])?;
                let [sums, counts] = [0, 1].map(|at| pair[at].as_primitive::<Float64Type>());
                let quotients: PrimitiveArray<Float64Type> = binary(sums, counts, |sum, count| sum / count)?;
                answered(Arc::new(quotients), &args)
            }
            (DataType::Interval(_), _) => {
                let counts = args.args[1].cast_to(&DataType::Float64, None)?;
                let mut inner = args;
                inner.args[1] = counts;
                IntervalOperation::Divide.function().invoke_with_args(inner)
            }
            (DataType::Decimal128(_, scale), _) if first == DataType::Null => {
                Ok(ColumnarValue::Scalar(ScalarValue::Decimal128(None, DECIMAL128_MAX_PRECISION, *scale)))
            }
            (DataType::Decimal128(_, scale), _) => {
                let values = self.computed(&args, *scale)?;
                answered(Arc::new(values), &args)
            }
            (other, _) => plan_err!("no {} gives {other}", self.name()),
        }
    }
}

impl Numeric {
    fn computed(&self, args: &ScalarFunctionArgs, scale: i8) -> Result<Decimal128Array> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (left, left_scale) = unscaled(&columns[0])?;
        let (right, right_scale) = unscaled(&columns[1])?;
        let pairs = left.iter().zip(right.iter());
        let results = pairs.map(|pair| {
            let (Some(left), Some(right)) = pair else { return Ok(None) };
            let result = match self.operation {
                NumericOperation::Multiply => product(left, right, left_scale + right_scale - scale),
                // The mean of no value is null.
                NumericOperation::Average if right == 0 => return Ok(None),
                _ if right == 0 => return Err(Error::DivisionByZero),
                _ => quotient(left, right, scale - left_scale + right_scale),
            };
            result.map(Some).ok_or_else(|| Error::OutOfRange("numeric field overflow".to_owned()))
        });
        let values: Decimal128Array = results.collect::<Result<_, Error>>()?;
        Ok(values.with_precision_and_scale(DECIMAL128_MAX_PRECISION, scale)?)
    }
}

/// One value where every argument is one, as constants are folded.
fn answered(values: ArrayRef, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
        false => Ok(ColumnarValue::Array(values)),
    }
}

fn numeric(scale: i8) -> DataType {
    DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale.min(DECIMAL128_MAX_PRECISION as i8))
}

/// The numeric that holds every value of a type, as far as one can.
fn as_numeric(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Decimal128(..) | DataType::Decimal256(..) => data_type.clone(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => numeric(0),
        integer if integer.is_integer() => DataType::Decimal128(10, 0),
        _ => numeric(10),
    }
}

/// The digits of exact numbers, and how many of them are decimals.
fn unscaled(column: &ArrayRef) -> Result<(Decimal128Array, i8)> {
    match column.data_type() {
        DataType::Decimal128(_, scale) => Ok((column.as_primitive::<Decimal128Type>().clone(), *scale)),
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>();
            Ok((values.unary::<_, Decimal128Type>(i128::from), 0))
        }
        _ => Ok((cast(column, &numeric(0))?.as_primitive::<Decimal128Type>().clone(), 0)),
    }
}

/// `left * 10^shift / right`, rounded half away from zero; none if it has more than 38 digits.
fn quotient(left: i128, right: i128, shift: i8) -> Option<i128> {
    let shift = u32::try_from(shift).ok()?;
    let factor = 10_i128.checked_pow(shift);
    if let Some(dividend) = factor.and_then(|factor| left.checked_mul(factor)) {
        let (whole, rest) = (dividend.checked_div(right)?, dividend.checked_rem(right)?);
        let (rest, divisor) = (rest.unsigned_abs(), right.unsigned_abs());
        let up = rest >= divisor - rest;
        return fitting(if up { whole + dividend.signum() * right.signum() } else { whole });
    }
    let dividend = i256::from_i128(left).checked_mul(i256::from_i128(10).checked_pow(shift)?)?;
    rounded(dividend, i256::from_i128(right))
}

/// `left * right / 10^shift`, rounded half away from zero; none if it has more than 38 digits.
fn product(left: i128, right: i128, shift: i8) -> Option<i128> {
    let whole = i256::from_i128(left).checked_mul(i256::from_i128(right))?;
    rounded(whole, i256::from_i128(10).checked_pow(u32::try_from(shift).ok()?)?)
}

fn rounded(dividend: i256, divisor: i256) -> Option<i128> {
    let (whole, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
    let (rest, size) = (rest.wrapping_abs(), divisor.wrapping_abs());
    let step = if dividend.is_negative() == divisor.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    let up = rest >= size.wrapping_sub(rest);
    fitting(if up { whole.checked_add(step)? } else { whole }.to_i128()?)
}

fn fitting(value: i128) -> Option<i128> {
    (value.unsigned_abs() < 10_u128.pow(u32::from(DECIMAL128_MAX_PRECISION))).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_round_half_away_from_zero() {
        assert_eq!(quotient(10, 3, 4), Some(33_333));
        assert_eq!(quotient(-20, 3, 4), Some(-66_667));
        assert_eq!(quotient(1, 2, 0), Some(1));
        assert_eq!(quotient(-1, 2, 0), Some(-1));
        assert_eq!(quotient(1, -2, 0), Some(-1));
        assert_eq!(quotient(49, 100, 0), Some(0));
        assert_eq!(quotient(i128::MIN + 1, 1, 0), None);
    }

    /// Beyond 128 bits in between, the result is the same.
    #[test]
    fn long_quotients_and_products_are_exact() {
        let long = 10_i128.pow(37);
        assert_eq!(quotient(long, 10_i128.pow(36) * 3, 20), Some(333_333_333_333_333_333_333));
        assert_eq!(quotient(-long * 2, 10_i128.pow(36) * 3, 20), Some(-666_666_666_666_666_666_667));
        assert_eq!(product(long, 25, 37), Some(25));
        assert_eq!(product(long, -15, 38), Some(-2));
        assert_eq!(product(long, long, 16), None);
    }
}
