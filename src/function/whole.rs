//! `ceil`, `floor`, `trunc` and `sign` of numerics, which have no more decimals than they need.
//!
//! Of other numbers they are DataFusion's own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use arrow::datatypes::{Field, FieldRef};

/// What is done with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whole {
    Ceil,
    Floor,
    Trunc,
    Sign,
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of = |whole: Whole, inner: Arc<ScalarUDF>| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Wholes { whole, inner, signature }))
    };
    use datafusion::functions::math;
    vec![
        of(Whole::Ceil, math::ceil()),
        of(Whole::Floor, math::floor()),
        of(Whole::Trunc, math::trunc()),
        of(Whole::Sign, math::signum()),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Wholes {
    whole: Whole,
    /// What floats are given to.
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl Wholes {
    /// The decimals of the result.
    fn scale(&self, own: i8, places: Option<i64>) -> i8 {
        match (self.whole, places) {
            (Whole::Trunc, Some(places)) => i8::try_from(places.clamp(0, 38)).unwrap_or_default().min(own),
            _ => 0,
        }
    }

    fn apply(&self, values: &Decimal128Array, own: i8, places: i64) -> Result<Decimal128Array> {
        let places = places.clamp(-38, 38);
        let scale = self.scale(own, Some(places));
        // What is cut off, and what is put back where digits before the point go.
        let cut =
            10_i128.pow(u32::try_from(i64::from(own) - places.min(i64::from(own))).unwrap_or(0).min(38));
        let kept = 10_i128.pow(u32::try_from(-places.min(0)).unwrap_or(0).min(38));
        let result: Decimal128Array = values.unary(|value| match self.whole {
            Whole::Ceil => value.div_euclid(cut) + i128::from(value.rem_euclid(cut) != 0),
            Whole::Floor => value.div_euclid(cut),
            Whole::Trunc => value / cut * kept,
            Whole::Sign => value.signum(),
        });
        Ok(result.with_precision_and_scale(DECIMAL128_MAX_PRECISION, scale)?)
    }
}

impl ScalarUDFImpl for Wholes {
    fn name(&self) -> &str {
        match self.whole {
            Whole::Ceil => "ceil",
            Whole::Floor => "floor",
            Whole::Trunc => "trunc",
            Whole::Sign => "sign",
        }
    }

    fn aliases(&self) -> &[String] {
        static CEILING: std::sync::LazyLock<[String; 1]> =
            std::sync::LazyLock::new(|| ["ceiling".to_owned()]);
        if self.whole == Whole::Ceil { CEILING.as_slice() } else { &[] }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let number = match types.first() {
            Some(decimal @ DataType::Decimal128(..)) => decimal.clone(),
            Some(DataType::Float32) => DataType::Float32,
            Some(other) if other.is_numeric() || other.is_null() => DataType::Float64,
            _ => return plan_err!("function {}({types:?}) does not exist", self.name()),
        };
        match (types.len(), self.whole) {
            (1, _) => Ok(vec![number]),
            (2, Whole::Trunc) => Ok(vec![number, DataType::Int64]),
            _ => plan_err!("function {} does not take {} arguments", self.name(), types.len()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Decimal128(_, own) => {
                let places = (types.len() > 1).then_some(i64::from(*own));
                Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.scale(*own, places)))
            }
            _ => Ok(types[0].clone()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let places = match args.scalar_arguments.get(1) {
            Some(Some(ScalarValue::Int64(places))) => *places,
            _ => None,
        };
        let data_type = match (&types[0], places) {
            (DataType::Decimal128(_, own), Some(places)) => {
                DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.scale(*own, Some(places)))
            }
            _ => self.return_type(&types)?,
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Decimal128(_, scale) = args.return_type() else {
            return self.inner.invoke_with_args(args);
        };
        let scale = *scale;
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let DataType::Decimal128(_, own) = columns[0].data_type() else {
            return plan_err!("{} of {}", self.name(), columns[0].data_type());
        };
        let values = columns[0].as_primitive::<Decimal128Type>();
        let result: ArrayRef = match args.args.get(1) {
            None => Arc::new(self.apply(values, *own, 0)?),
            Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(places))))
                if self.scale(*own, Some(*places)) == scale =>
            {
                Arc::new(self.apply(values, *own, *places)?)
            }
            Some(_) => {
                let places = columns[1].as_primitive::<arrow::datatypes::Int64Type>();
                let rows = (0..values.len()).map(|row| {
                    if values.is_null(row) || places.is_null(row) {
                        return Ok(None);
                    }
                    let one = self.apply(&values.slice(row, 1), *own, places.value(row))?;
                    // All rows have the decimals of the result, whatever each asks for.
                    let raised = u32::try_from(scale - one.scale()).unwrap_or(0);
                    Ok(Some(one.value(0) * 10_i128.pow(raised)))
                });
                let rows: Decimal128Array = rows.collect::<Result<_>>()?;
                Arc::new(rows.with_precision_and_scale(DECIMAL128_MAX_PRECISION, scale)?)
            }
        };
        match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
