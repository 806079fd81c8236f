//! Integers: arithmetic that notices when its result does not fit.
//!
//! PostgreSQL refuses an integer out of range; DataFusion's operators wrap it around. The functions
//! here take the operators' place once types are known. The check is part of the loop and has no
//! branch in it: where the compiler adds eight numbers at a time, it goes on doing so.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

/// What is done with integers of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Negate,
}

impl Arithmetic {
    /// The function that does it; its arguments are of one integer type, and so is its result.
    pub fn function(self) -> Arc<ScalarUDF> {
        let arguments = if self == Self::Negate { 1 } else { 2 };
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Checked { operation: self, signature }))
    }

    /// Whether a function is one of these.
    pub fn is(function: &ScalarUDF) -> bool {
        function.inner().downcast_ref::<Checked>().is_some()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Arithmetic,
    signature: Signature,
}

impl ScalarUDFImpl for Checked {
    /// As EXPLAIN shows it; no name that could be typed, for it is no function of PostgreSQL.
    fn name(&self) -> &str {
        match self.operation {
            Arithmetic::Add => "+",
            Arithmetic::Subtract | Arithmetic::Negate => "-",
            Arithmetic::Multiply => "*",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let operation = self.operation;
        match args.return_type().clone() {
            DataType::Int8 => invoke::<Int8Type>(operation, &args),
            DataType::Int16 => invoke::<Int16Type>(operation, &args),
            DataType::Int32 => invoke::<Int32Type>(operation, &args),
            DataType::Int64 => invoke::<Int64Type>(operation, &args),
            DataType::UInt8 => invoke::<UInt8Type>(operation, &args),
            DataType::UInt16 => invoke::<UInt16Type>(operation, &args),
            DataType::UInt32 => invoke::<UInt32Type>(operation, &args),
            DataType::UInt64 => invoke::<UInt64Type>(operation, &args),
            other => internal_err!("integer arithmetic on {other}"),
        }
    }
}

macro_rules! signed {
    ($($native:ty),*) => {$(
        impl Wrapping for $native {
            // The sign bit tells, so that no flag of the processor has to be read for each number.
            #[inline(always)]
            fn add(self, other: Self) -> (Self, bool) {
                let sum = self.wrapping_add(other);
                (sum, (self ^ sum) & (other ^ sum) < 0)
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> (Self, bool) {
                let difference = self.wrapping_sub(other);
                (difference, (self ^ other) & (self ^ difference) < 0)
            }

            #[inline(always)]
            fn multiply(self, other: Self) -> (Self, bool) {
                self.overflowing_mul(other)
            }
        }
    )*};
}

macro_rules! unsigned {
    ($($native:ty),*) => {$(
        impl Wrapping for $native {
            #[inline(always)]
            fn add(self, other: Self) -> (Self, bool) {
                self.overflowing_add(other)
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> (Self, bool) {
                self.overflowing_sub(other)
            }

            #[inline(always)]
            fn multiply(self, other: Self) -> (Self, bool) {
                self.overflowing_mul(other)
            }
        }
    )*};
}

signed!(i8, i16, i32, i64);
unsigned!(u8, u16, u32, u64);

/// A number whose operations say whether the result wrapped around.
trait Wrapping: Copy + Default {
    fn add(self, other: Self) -> (Self, bool);
    fn subtract(self, other: Self) -> (Self, bool);
    fn multiply(self, other: Self) -> (Self, bool);
}

/// One side of an operator.
enum Side<T: ArrowPrimitiveType> {
    Column(PrimitiveArray<T>),
    /// The same value in every row; none for null.
    Constant(Option<T::Native>),
}

impl<T: ArrowPrimitiveType> Side<T> {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self::Column(array.as_primitive::<T>().clone()),
            ColumnarValue::Scalar(scalar) => {
                let array = scalar.to_array()?;
                let array = array.as_primitive::<T>();
                Self::Constant(array.is_valid(0).then(|| array.value(0)))
            }
        })
    }
}

fn invoke<T>(operation: Arithmetic, args: &ScalarFunctionArgs) -> Result<ColumnarValue>
where
    T: ArrowPrimitiveType,
    T::Native: Wrapping,
{
    let right = Side::<T>::of(args.args.last().expect("the signature has one at least"))?;
    match operation {
        Arithmetic::Add => apply(Side::of(&args.args[0])?, right, Wrapping::add),
        Arithmetic::Subtract => apply(Side::of(&args.args[0])?, right, Wrapping::subtract),
        Arithmetic::Multiply => apply(Side::of(&args.args[0])?, right, Wrapping::multiply),
        Arithmetic::Negate => apply(Side::Constant(Some(T::Native::default())), right, Wrapping::subtract),
    }
}

#[inline(always)]
fn apply<T: ArrowPrimitiveType>(
    left: Side<T>,
    right: Side<T>,
    operate: impl Fn(T::Native, T::Native) -> (T::Native, bool),
) -> Result<ColumnarValue> {
    let array = match (left, right) {
        (Side::Constant(Some(left)), Side::Constant(Some(right))) => match operate(left, right) {
            (value, false) => {
                let value = PrimitiveArray::<T>::from_value(value, 1);
                return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?));
            }
            _ => return Err(out_of_range(&T::DATA_TYPE).into()),
        },
        (Side::Constant(None), _) | (_, Side::Constant(None)) => {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(&T::DATA_TYPE)?));
        }
        (Side::Column(left), Side::Constant(Some(right))) => {
            let pairs = left.values().iter().map(|left| operate(*left, right));
            collected::<T>(pairs, left.nulls().cloned())?
        }
        (Side::Constant(Some(left)), Side::Column(right)) => {
            let pairs = right.values().iter().map(|right| operate(left, *right));
            collected::<T>(pairs, right.nulls().cloned())?
        }
        (Side::Column(left), Side::Column(right)) => {
            let pairs = left.values().iter().zip(right.values()).map(|(left, right)| operate(*left, *right));
            collected::<T>(pairs, NullBuffer::union(left.nulls(), right.nulls()))?
        }
    };
    Ok(ColumnarValue::Array(array))
}

/// Collects results; one that wrapped around counts only where it is not null.
#[inline(always)]
fn collected<T: ArrowPrimitiveType>(
    results: impl ExactSizeIterator<Item = (T::Native, bool)> + Clone,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let mut wrapped = false;
    let counted = results.clone().map(|(value, wraps)| {
        wrapped |= wraps;
        value
    });
    let values = counted.collect::<Vec<_>>();
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    if wrapped && results.enumerate().any(|(row, (_, wraps))| wraps && !is_null(row)) {
        return Err(out_of_range(&T::DATA_TYPE).into());
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls)))
}

/// PostgreSQL's error for a result that an integer type does not hold.
pub(super) fn out_of_range(data_type: &DataType) -> Error {
    let name = match data_type {
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "smallint",
        DataType::UInt16 | DataType::Int32 => "integer",
        _ => "bigint",
    };
    Error::OutOfRange(format!("{name} out of range"))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;

    use super::*;

    fn added(left: Vec<Option<i32>>, right: Vec<Option<i32>>) -> Result<ColumnarValue> {
        let (left, right) = (Int32Array::from(left), Int32Array::from(right));
        apply(Side::Column(left), Side::Column(right), Wrapping::add)
    }

    #[test]
    fn a_result_that_does_not_fit_is_refused() {
        assert!(added(vec![Some(i32::MAX)], vec![Some(1)]).is_err());
        assert!(added(vec![Some(i32::MIN)], vec![Some(-1)]).is_err());
        assert!(added(vec![Some(i32::MAX), None], vec![Some(0), Some(1)]).is_ok());
        assert_eq!(i64::MIN.subtract(1), (i64::MAX, true));
        assert_eq!(0_i64.subtract(i64::MIN), (i64::MIN, true));
        assert_eq!((-1_i16).subtract(i16::MIN), (i16::MAX, false));
        assert!(3_000_000_000_i64.multiply(4_000_000_000).1);
        assert_eq!(2_u8.subtract(3), (255, true));
    }

    /// What lies under a null is nobody's number.
    #[test]
    fn a_null_never_overflows() {
        let nulls = Some(NullBuffer::from(vec![false]));
        let hidden = Int32Array::new(vec![i32::MAX].into(), nulls);
        assert!(apply(Side::Column(hidden), Side::Constant(Some(1)), Wrapping::add).is_ok());
    }
}
