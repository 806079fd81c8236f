//! Floats: a division that refuses zero, and rounding half to even, as C and PostgreSQL do.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::kernels::numeric::div;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

/// What is done with floats of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float {
    Divide,
    RoundToEven,
}

impl Float {
    /// The function that does it; its arguments are of one type, and so is its result.
    pub fn function(self) -> Arc<ScalarUDF> {
        let arguments = if self == Self::Divide { 2 } else { 1 };
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Floats { operation: self, signature }))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Floats {
    operation: Float,
    signature: Signature,
}

impl ScalarUDFImpl for Floats {
    fn name(&self) -> &str {
        match self.operation {
            Float::Divide => "/",
            Float::RoundToEven => "round",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let result = match args.return_type() {
            DataType::Float64 => self.computed::<Float64Type>(&columns, 0.0, f64::round_ties_even)?,
            DataType::Float32 => self.computed::<Float32Type>(&columns, 0.0, f32::round_ties_even)?,
            other => return internal_err!("floats of type {other}"),
        };
        match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

impl Floats {
    fn computed<T: ArrowPrimitiveType>(
        &self,
        columns: &[ArrayRef],
        zero: T::Native,
        round: fn(T::Native) -> T::Native,
    ) -> Result<ArrayRef> {
        let first = columns[0].as_primitive::<T>();
        if self.operation == Float::RoundToEven {
            let rounded: PrimitiveArray<T> = first.unary(round);
            return Ok(Arc::new(rounded));
        }
        let divisors = columns[1].as_primitive::<T>();
        let is_zero =
            |row: usize| divisors.value(row) == zero && divisors.is_valid(row) && first.is_valid(row);
        if divisors.values().contains(&zero) && (0..divisors.len()).any(is_zero) {
            return Err(Error::DivisionByZero.into());
        }
        Ok(div(&columns[0], &columns[1])?)
    }
}
