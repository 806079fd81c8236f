//! Text to values, as PostgreSQL's input functions read it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{UUID_IN, encode_options, of_micros};
use crate::error::Error;
use crate::function::SessionFacts;
use crate::value::input;
use crate::value::output::EncodeOptions;

/// The metadata by which a field says that its sixteen bytes are a uuid.
const EXTENSION: (&str, &str) = ("ARROW:extension:name", "arrow.uuid");

/// Whether Arrow reads such values otherwise than PostgreSQL.
pub fn differs(to: &DataType) -> bool {
    use DataType::*;
    matches!(
        to,
        Date32
            | Time64(_)
            | Timestamp(..)
            | Interval(IntervalUnit::MonthDayNano)
            | Binary
            | BinaryView
            | LargeBinary
    )
}

/// The cast of text to a type, in the zone of a session.
pub fn function(to: &DataType, facts: &Arc<SessionFacts>) -> Arc<ScalarUDF> {
    let to = Arc::new(Field::new("value", to.clone(), true));
    let signature = Signature::any(1, Volatility::Stable);
    Arc::new(ScalarUDF::new_from_impl(Input { to, facts: Some(Arc::clone(facts)), signature }))
}

/// The cast of text to uuid.
pub fn uuid_in() -> Arc<ScalarUDF> {
    let uuid = Field::new("uuid", DataType::FixedSizeBinary(16), true);
    let to = Arc::new(uuid.with_metadata([(EXTENSION.0.to_owned(), EXTENSION.1.to_owned())].into()));
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Input { to, facts: None, signature }))
}

#[derive(Debug)]
struct Input {
    to: FieldRef,
    /// None for types that no setting matters to.
    facts: Option<Arc<SessionFacts>>,
    signature: Signature,
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        let facts = |one: &Self| one.facts.as_ref().map(Arc::as_ptr);
        self.to == other.to && facts(self) == facts(other)
    }
}

impl Eq for Input {}

impl Hash for Input {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to.hash(state);
    }
}

impl ScalarUDFImpl for Input {
    fn name(&self) -> &str {
        match self.to.data_type() {
            DataType::Date32 => "date_in",
            DataType::Time64(_) => "time_in",
            DataType::Timestamp(_, None) => "timestamp_in",
            DataType::Timestamp(..) => "timestamptz_in",
            DataType::Interval(_) => "interval_in",
            DataType::FixedSizeBinary(_) => UUID_IN,
            _ => "byteain",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(self.to.as_ref().clone().with_name(self.name()).with_nullable(nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = match &self.facts {
            Some(facts) => encode_options(facts)?,
            None => EncodeOptions::default(),
        };
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.read(array, &style)?)),
            ColumnarValue::Scalar(scalar) => {
                let value = self.read(&scalar.to_array()?, &style)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?))
            }
        }
    }
}

impl Input {
    fn read(&self, array: &ArrayRef, style: &EncodeOptions) -> Result<ArrayRef> {
        let (zone, order) = (&style.time_zone, style.date_style.order);
        let to = self.to.data_type();
        // What is a uuid already stays one; bytes, likewise.
        if array.data_type() == to {
            return Ok(Arc::clone(array));
        }
        let texts = cast(array, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        Ok(match to {
            DataType::Date32 => Arc::new(primitive::<Date32Type>(texts, |text| input::date(text, order))?),
            DataType::Time64(TimeUnit::Nanosecond) => {
                Arc::new(primitive::<Time64NanosecondType>(texts, |text| Ok(input::time(text)? * 1_000))?)
            }
            DataType::Time64(_) => Arc::new(primitive::<Time64MicrosecondType>(texts, input::time)?),
            DataType::Timestamp(unit, None) => {
                timestamps(texts, *unit, None, |text| input::timestamp(text, order))?
            }
            DataType::Timestamp(unit, named) => {
                timestamps(texts, *unit, named.clone(), |text| input::timestamptz(text, zone, order))?
            }
            DataType::Interval(_) => Arc::new(primitive::<IntervalMonthDayNanoType>(texts, input::interval)?),
            DataType::Binary => Arc::new(bytes(texts)?),
            DataType::BinaryView | DataType::LargeBinary => cast(&bytes(texts)?, to)?,
            DataType::FixedSizeBinary(16) => {
                let ids = texts.iter().map(|text| text.map(input::uuid).transpose());
                let ids = ids.collect::<Result<Vec<_>, Error>>()?;
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.into_iter(), 16)?)
            }
            other => return exec_err!("no text is read as {other}"),
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    texts: &StringArray,
    read: impl Fn(&str) -> Result<T::Native, Error>,
) -> Result<PrimitiveArray<T>, Error> {
    texts.iter().map(|text| text.map(&read).transpose()).collect()
}

fn bytes(texts: &StringArray) -> Result<BinaryArray, Error> {
    texts.iter().map(|text| text.map(input::bytea).transpose()).collect()
}

fn timestamps(
    texts: &StringArray,
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    read: impl Fn(&str) -> Result<i64, Error>,
) -> Result<ArrayRef, Error> {
    let read = |text: &str| {
        let beyond = || Error::DatetimeOverflow(format!("timestamp out of range: \"{text}\""));
        of_micros(read(text)?, unit).ok_or_else(beyond)
    };
    let numbers = texts.iter().map(|text| text.map(read).transpose());
    let numbers = numbers.collect::<Result<Int64Array, Error>>()?;
    Ok(cast(&numbers, &DataType::Timestamp(unit, zone))?)
}
