//! Numbers to integers: numeric rounds half away from zero, a float half to even.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::*;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::integer::out_of_range;

/// The cast of a numeric, real or double precision to an integer type.
pub fn function(to: &DataType) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Rounded { to: to.clone(), signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounded {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Rounded {
    fn name(&self) -> &str {
        match self.to {
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => "int2",
            DataType::UInt16 | DataType::Int32 => "int4",
            _ => "int8",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.rounded(array)?)),
            ColumnarValue::Scalar(scalar) => {
                let rounded = self.rounded(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&rounded, 0)?))
            }
        }
    }
}

impl Rounded {
    fn rounded(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match self.to {
            DataType::Int8 => self.integers::<Int8Type>(array),
            DataType::Int16 => self.integers::<Int16Type>(array),
            DataType::Int32 => self.integers::<Int32Type>(array),
            DataType::Int64 => self.integers::<Int64Type>(array),
            DataType::UInt8 => self.integers::<UInt8Type>(array),
            DataType::UInt16 => self.integers::<UInt16Type>(array),
            DataType::UInt32 => self.integers::<UInt32Type>(array),
            DataType::UInt64 => self.integers::<UInt64Type>(array),
            ref other => plan_err!("{other} is no integer type"),
        }
    }

    fn integers<T>(&self, array: &ArrayRef) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType,
        T::Native: TryFrom<i128>,
    {
        let wide = |value: i128| T::Native::try_from(value).map_err(|_| out_of_range(&self.to));
        let rounded: PrimitiveArray<T> = match array.data_type() {
            DataType::Decimal256(precision, scale) => {
                // No integer has more digits than a decimal of 128 bits.
                let narrow = cast(array, &DataType::Decimal128((*precision).min(38), *scale))?;
                return self.integers::<T>(&narrow);
            }
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                let wider = cast(array, &DataType::Decimal128(*precision, *scale))?;
                return self.integers::<T>(&wider);
            }
            DataType::Decimal128(_, scale) => {
                let scale = *scale;
                let decimals = array.as_primitive::<Decimal128Type>();
                decimals.try_unary(|value| wide(unscaled(value, scale).unwrap_or(i128::MAX)))?
            }
            _ => {
                let floats = cast(array, &DataType::Float64)?;
                let floats = floats.as_primitive::<Float64Type>();
                // Not a number becomes the largest of all, which no integer type holds.
                floats.try_unary(|value| wide(if value.is_nan() { i128::MAX } else { even(value) }))?
            }
        };
        Ok(Arc::new(rounded))
    }
}

fn even(value: f64) -> i128 {
    // The cast stops at the ends of its type, far beyond every integer type of PostgreSQL.
    value.round_ties_even() as i128
}

/// The whole number nearest to `value / 10^scale`, halves away from zero; none if it is too large.
fn unscaled(value: i128, scale: i8) -> Option<i128> {
    let power = 10_i128.checked_pow(u32::from(scale.unsigned_abs()))?;
    if scale <= 0 {
        return value.checked_mul(power);
    }
    let (whole, rest) = (value / power, value % power);
    let up = rest.unsigned_abs() >= power.unsigned_abs() - rest.unsigned_abs();
    Some(if up { whole + value.signum() } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_round_half_away_from_zero_and_floats_half_to_even() {
        for (value, scale, rounded) in [
            (37, 1, 4),
            (25, 1, 3),
            (-25, 1, -3),
            (24, 1, 2),
            (-349, 2, -3),
            (350, 2, 4),
            (7, 0, 7),
            (7, -2, 700),
        ] {
            assert_eq!(unscaled(value, scale), Some(rounded), "{value} of scale {scale}");
        }
        assert_eq!(unscaled(i128::MAX, 38), Some(2));
        for (value, rounded) in [(2.5, 2), (3.5, 4), (-2.5, -2), (3.7, 4), (-0.5, 0)] {
            assert_eq!(even(value), rounded, "{value}");
        }
    }
}
