//! Row functions: scalar functions that are written as one closure over one row.
//!
//! A [`RowFunction`] turns a closure over values into a function that DataFusion can plan and run
//! over columns. It decides the number of arguments, the answer to nulls and the result's type. It
//! is made for catalog functions, whose batches are small: each value passes through a
//! [`ScalarValue`], about 100 ns a row.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::error::Error;
use crate::value::types::PG_TYPE_KEY;

type Body = Arc<dyn Fn(&Values<'_>) -> Result<ScalarValue> + Send + Sync>;

/// A scalar function given by a closure over the values of one row.
pub(super) struct RowFunction {
    name: &'static str,
    aliases: Vec<String>,
    arguments: RangeInclusive<usize>,
    returns: DataType,
    strict: bool,
    /// The type that clients see, where it is another than that of `returns`.
    shown: Shown,
    signature: Signature,
    body: Body,
}

impl RowFunction {
    /// A function that gives null as soon as one argument is null, and the same answer within a statement.
    pub(super) fn new<F>(
        name: &'static str,
        arguments: RangeInclusive<usize>,
        returns: DataType,
        body: F,
    ) -> Self
    where
        F: Fn(&Values<'_>) -> Result<ScalarValue> + Send + Sync + 'static,
    {
        let signature = signature(Volatility::Stable);
        let (shown, body) = (Shown::Plain, Arc::new(body));
        Self { name, aliases: vec![], arguments, returns, strict: true, shown, signature, body }
    }

    /// Says which type of PostgreSQL's the result is.
    pub(super) fn typed(self, pg_type: &'static str) -> Self {
        self.shown(Shown::As(pg_type))
    }

    /// Calls the closure for rows with nulls too.
    pub(super) fn nulls(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Declares that the function acts, or answers differently, at every call.
    pub(super) fn volatile(mut self) -> Self {
        self.signature = signature(Volatility::Volatile);
        self
    }

    /// Says which type of PostgreSQL the result is shown as.
    pub(super) fn shown(mut self, shown: Shown) -> Self {
        self.shown = shown;
        self
    }

    pub(super) fn alias(mut self, name: &str) -> Self {
        self.aliases.push(name.to_owned());
        self
    }

    pub(super) fn into_udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(self))
    }

    fn row(&self, values: &[ScalarValue], fields: &[FieldRef]) -> Result<ScalarValue> {
        if self.strict && values.iter().any(ScalarValue::is_null) {
            return ScalarValue::try_from(&self.returns);
        }
        match (self.body)(&Values { function: self.name, values, fields })? {
            ScalarValue::Null => ScalarValue::try_from(&self.returns),
            value => Ok(value),
        }
    }
}

fn signature(volatility: Volatility) -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], volatility)
}

/// The type of PostgreSQL that a function's result is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The one that its Arrow type has.
    Plain,
    As(&'static str),
    /// `jsonb` or `json`, whichever its first argument of such a type has.
    AsGiven,
}

/// The json type that a column is marked with.
pub fn json_type(field: &Field) -> Option<&'static str> {
    let name = field.metadata().get(PG_TYPE_KEY)?;
    ["json", "jsonb"].into_iter().find(|known| known == name)
}

impl fmt::Debug for RowFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowFunction").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Two row functions are the same when they run the same closure: one name has another closure in
/// another session.
impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.body, &other.body)
    }
}

impl Eq for RowFunction {}

impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if self.arguments.contains(&types.len()) {
            return Ok(self.returns.clone());
        }
        plan_err!("function {} does not take {} arguments", self.name, types.len())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name, self.return_type(&types)?, true);
        let shown = match self.shown {
            Shown::Plain => return Ok(Arc::new(field)),
            Shown::As(name) => name,
            Shown::AsGiven => args.arg_fields.iter().find_map(|field| json_type(field)).unwrap_or("json"),
        };
        Ok(Arc::new(field.with_metadata([(PG_TYPE_KEY.to_owned(), shown.to_owned())].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        if constant && self.signature.volatility != Volatility::Volatile {
            return Ok(ColumnarValue::Scalar(self.row(&row_values(&args.args, 0)?, &args.arg_fields)?));
        }
        let one = |row| self.row(&row_values(&args.args, row)?, &args.arg_fields);
        let rows: Result<Vec<_>> = (0..args.number_rows).map(one).collect();
        let rows = rows?;
        if rows.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.returns)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(rows)?))
    }
}

pub(super) fn row_values(columns: &[ColumnarValue], row: usize) -> Result<Vec<ScalarValue>> {
    columns
        .iter()
        .map(|column| match column {
            ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
            ColumnarValue::Scalar(value) => Ok(value.clone()),
        })
        .collect()
}

/// The arguments of one call.
pub(super) struct Values<'a> {
    function: &'static str,
    values: &'a [ScalarValue],
    fields: &'a [FieldRef],
}

impl<'a> Values<'a> {
    pub(super) fn new(function: &'static str, values: &'a [ScalarValue]) -> Self {
        Self { function, values, fields: &[] }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The column that an argument is, with its marks.
    pub(super) fn field(&self, index: usize) -> Option<&Field> {
        self.fields.get(index).map(AsRef::as_ref)
    }

    /// Whether an argument is of a json type, and not a text.
    pub(super) fn is_json(&self, index: usize) -> bool {
        self.fields.get(index).is_some_and(|field| json_type(field).is_some())
    }

    pub(super) fn all(&self) -> &[ScalarValue] {
        self.values
    }

    /// The argument as text; none if it is null or was not given.
    pub(super) fn text(&self, index: usize) -> Option<String> {
        self.values.get(index).and_then(text)
    }

    /// The argument as an integer, or as an integer that a text spells; none if it is null or not one.
    pub(super) fn integer(&self, index: usize) -> Option<i64> {
        let value = self.values.get(index)?;
        match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(number) => number,
            _ => None,
        }
    }

    pub(super) fn boolean(&self, index: usize) -> Option<bool> {
        match self.values.get(index)?.cast_to(&DataType::Boolean).ok()? {
            ScalarValue::Boolean(value) => value,
            _ => None,
        }
    }

    /// The error of a call with arguments that the function cannot take.
    pub(super) fn refuse(&self, why: &str) -> DataFusionError {
        failure(Error::InvalidParameter(format!("{}: {why}", self.function)))
    }
}

/// The value as PostgreSQL would print it; none for null.
pub(super) fn text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => text.clone(),
        ScalarValue::Boolean(Some(value)) => Some(if *value { "t" } else { "f" }.to_owned()),
        value if value.is_null() => None,
        value if super::cast::prints(&value.data_type()) => super::cast::of_scalar(value),
        value => match value.cast_to(&DataType::Utf8) {
            Ok(ScalarValue::Utf8(text)) => text,
            _ => Some(value.to_string()),
        },
    }
}

pub(super) fn utf8(text: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(text.into()))
}

/// Our error on its way through DataFusion.
pub(super) fn failure(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
