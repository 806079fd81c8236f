//! The functions: `to_char`, `to_date`, `to_timestamp`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::moment::Moment;
use super::{number, pattern};
use crate::error::Error;
use crate::function::SessionFacts;
use crate::function::cast::encode_options;
use crate::value::input;
use crate::value::output::TimeZone;
use crate::value::output::datetime::DAY_MICROS;

/// The functions of a session, which show and read timestamps in its zone.
pub fn functions(facts: &Arc<SessionFacts>) -> Vec<Arc<ScalarUDF>> {
    let function = |kind| {
        let (facts, signature) = (Arc::clone(facts), Signature::user_defined(Volatility::Stable));
        Arc::new(ScalarUDF::new_from_impl(Templated { kind, facts, signature }))
    };
    [Kind::Char, Kind::Date, Kind::Timestamp].map(function).into()
}

/// What a function makes: texts, dates or timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Char,
    Date,
    Timestamp,
}

#[derive(Debug)]
struct Templated {
    kind: Kind,
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl PartialEq for Templated {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && Arc::ptr_eq(&self.facts, &other.facts)
    }
}

impl Eq for Templated {}

impl Hash for Templated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl ScalarUDFImpl for Templated {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Char => "to_char",
            Kind::Date => "to_date",
            Kind::Timestamp => "to_timestamp",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Char => DataType::Utf8,
            Kind::Date => DataType::Date32,
            Kind::Timestamp => timestamptz(),
        })
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.kind, types) {
            (Kind::Char, [value, _]) => match shown_as(value) {
                Some(shown) => Ok(vec![shown, DataType::Utf8]),
                None => Err(self.unknown(types)),
            },
            (Kind::Timestamp, [seconds]) if seconds.is_numeric() || seconds.is_null() => {
                Ok(vec![DataType::Float64])
            }
            (Kind::Date | Kind::Timestamp, [text, _]) if is_text(text) => {
                Ok(vec![DataType::Utf8, DataType::Utf8])
            }
            _ => Err(self.unknown(types)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let zone = encode_options(&self.facts)?.time_zone;
        let value = args.args[0].to_array(rows)?;
        let array: ArrayRef = match (self.kind, args.args.get(1)) {
            (Kind::Char, Some(template)) => print(&value, &template.to_array(rows)?, &zone)?,
            (Kind::Date, Some(template)) => Arc::new(dates(&value, &template.to_array(rows)?)?),
            (Kind::Timestamp, Some(template)) => {
                Arc::new(instants(&value, &template.to_array(rows)?, &zone)?)
            }
            (Kind::Timestamp, None) => Arc::new(of_epoch(&value)?),
            _ => return plan_err!("{} takes two arguments", self.name()),
        };
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

impl Templated {
    fn unknown(&self, types: &[DataType]) -> datafusion::error::DataFusionError {
        let name = |ty: &DataType| crate::value::types::type_name(crate::value::types::pg_type_of(ty).oid);
        let types: Vec<String> = types.iter().map(name).collect();
        Error::FunctionNotFound(format!("function {}({}) does not exist", self.name(), types.join(", ")))
            .into()
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

/// The type as which `to_char` takes a value; none for one that it does not take.
fn shown_as(data_type: &DataType) -> Option<DataType> {
    use DataType::*;
    Some(match data_type {
        Date32 | Date64 => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, zone) => Timestamp(TimeUnit::Microsecond, zone.clone()),
        Time32(_) | Time64(_) => Time64(TimeUnit::Microsecond),
        Interval(_) => Interval(IntervalUnit::MonthDayNano),
        Duration(_) => Duration(TimeUnit::Microsecond),
        UInt64 => Decimal128(20, 0),
        Float16 | Float32 | Float64 => Float64,
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        Decimal128(..) => data_type.clone(),
        integer if integer.is_integer() => Int64,
        Null => Int64,
        _ => return None,
    })
}

/// Templates are parsed when they change, which they hardly ever do from row to row.
struct Parsed<'a, T> {
    texts: &'a StringArray,
    parse: fn(&str) -> Result<T, Error>,
    last: Option<(&'a str, T)>,
}

impl<'a, T> Parsed<'a, T> {
    fn new(texts: &'a ArrayRef, parse: fn(&str) -> Result<T, Error>) -> Self {
        Self { texts: texts.as_string::<i32>(), parse, last: None }
    }

    fn at(&mut self, row: usize) -> Result<Option<&T>, Error> {
        if self.texts.is_null(row) {
            return Ok(None);
        }
        let text = self.texts.value(row);
        if self.last.as_ref().is_none_or(|(last, _)| *last != text) {
            self.last = Some((text, (self.parse)(text)?));
        }
        Ok(self.last.as_ref().map(|(_, template)| template))
    }
}

/// Applies a template to every row where neither is null.
fn each<T, O>(
    values: &ArrayRef,
    templates: &ArrayRef,
    parse: fn(&str) -> Result<T, Error>,
    apply: impl Fn(&T, usize) -> Result<O, Error>,
) -> Result<Vec<Option<O>>, Error> {
    let mut parsed = Parsed::new(templates, parse);
    let row = |row: usize| match parsed.at(row)? {
        Some(template) if values.is_valid(row) => apply(template, row).map(Some),
        _ => Ok(None),
    };
    (0..values.len()).map(row).collect()
}

fn moments(text: &str) -> Result<pattern::Template, Error> {
    Ok(pattern::Template::parse(text))
}

fn print(values: &ArrayRef, templates: &ArrayRef, zone: &TimeZone) -> Result<ArrayRef, Error> {
    let texts = match values.data_type() {
        DataType::Timestamp(_, zoned) => {
            let micros = values.as_primitive::<TimestampMicrosecondType>();
            let zone = zoned.is_some().then_some(zone);
            each(values, templates, moments, |template, row| {
                template.print(&moment(micros.value(row), zone))
            })?
        }
        DataType::Time64(_) => {
            let micros = values.as_primitive::<Time64MicrosecondType>();
            let moment = |row: usize| Moment::of_interval(0, 0, micros.value(row));
            each(values, templates, moments, |template, row| template.print(&moment(row)))?
        }
        DataType::Duration(_) => {
            let micros = values.as_primitive::<DurationMicrosecondType>();
            let moment =
                |micros: i64| Moment::of_interval(0, (micros / DAY_MICROS) as i32, micros % DAY_MICROS);
            each(values, templates, moments, |template, row| template.print(&moment(micros.value(row))))?
        }
        DataType::Interval(_) => {
            let intervals = values.as_primitive::<IntervalMonthDayNanoType>();
            let moment = |value: IntervalMonthDayNano| {
                Moment::of_interval(value.months, value.days, value.nanoseconds / 1_000)
            };
            each(values, templates, moments, |template, row| template.print(&moment(intervals.value(row))))?
        }
        _ => each(values, templates, number::Template::parse, |template, row| {
            Ok(template.print(&digits(values, row, template)))
        })?,
    };
    Ok(Arc::new(texts.into_iter().collect::<StringArray>()))
}

fn moment(micros: i64, zone: Option<&TimeZone>) -> Moment {
    let Some(zone) = zone else {
        return Moment::of_local(micros, None);
    };
    let seconds = micros.div_euclid(1_000_000);
    let shown = (zone.offset_at(seconds), zone.abbreviation_at(seconds));
    Moment::of_local(input::to_local(micros, zone), Some(shown))
}

/// The digits of a number, as its template wants them rounded.
fn digits(values: &ArrayRef, row: usize, template: &number::Template) -> String {
    let (decimals, shift) =
        if template.is_roman() { (0, 0) } else { (template.decimals(), template.shift()) };
    let (value, scale) = match values.data_type() {
        DataType::Float64 => {
            let value = values.as_primitive::<Float64Type>().value(row);
            if template.has_exponent() {
                return scientific(value, decimals);
            }
            return format!("{:.decimals$}", value * 10_f64.powi(shift as i32));
        }
        DataType::Decimal128(_, scale) => (values.as_primitive::<Decimal128Type>().value(row), *scale),
        _ => (i128::from(values.as_primitive::<Int64Type>().value(row)), 0),
    };
    if template.has_exponent() {
        return scientific(value as f64 / 10_f64.powi(scale.into()), decimals);
    }
    // What does not fit into 38 digits is too wide for any template, and gets crossed out.
    rounded(value, i32::from(scale) - shift as i32, decimals).unwrap_or_else(|| "#".to_owned())
}

/// `value / 10^scale`, rounded half away from zero to so many decimals, as text.
fn rounded(value: i128, scale: i32, decimals: usize) -> Option<String> {
    let surplus = scale - decimals as i32;
    let power = 10_i128.checked_pow(surplus.unsigned_abs())?;
    let value = if surplus > 0 {
        let (whole, rest) = (value / power, value % power);
        if rest.abs() >= power - rest.abs() { whole + value.signum() } else { whole }
    } else {
        value.checked_mul(power)?
    };
    let sign = if value < 0 { "-" } else { "" };
    let width = decimals + 1;
    let digits = format!("{:0width$}", value.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    Some(if decimals == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// A number as C prints it by `%.*e`: the exponent has two digits at least.
fn scientific(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

fn dates(values: &ArrayRef, templates: &ArrayRef) -> Result<Date32Array, Error> {
    let texts = values.as_string::<i32>();
    let days = each(values, templates, moments, |template, row| {
        let days = template.read(texts.value(row))?.local.div_euclid(DAY_MICROS);
        i32::try_from(days).map_err(|_| Error::DatetimeOverflow("date out of range".to_owned()))
    })?;
    Ok(days.into_iter().collect())
}

fn instants(
    values: &ArrayRef,
    templates: &ArrayRef,
    zone: &TimeZone,
) -> Result<TimestampMicrosecondArray, Error> {
    let texts = values.as_string::<i32>();
    let micros = each(values, templates, moments, |template, row| {
        let read = template.read(texts.value(row))?;
        let zone = read.offset.map_or(*zone, TimeZone::fixed);
        input::to_utc(read.local, &zone)
    })?;
    Ok(micros.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Seconds since 1970 as timestamps.
fn of_epoch(values: &ArrayRef) -> Result<TimestampMicrosecondArray, Error> {
    let seconds = cast(values, &DataType::Float64)?;
    let micros = |seconds: f64| match seconds * 1e6 {
        infinite if infinite.is_infinite() => Ok(if infinite > 0.0 { i64::MAX } else { i64::MIN }),
        micros if micros.is_nan() || micros.abs() >= 9.2e18 => {
            Err(Error::DatetimeOverflow(format!("timestamp out of range: \"{seconds}\"")))
        }
        micros => Ok(micros.round() as i64),
    };
    let micros = seconds.as_primitive::<Float64Type>().iter().map(|value| value.map(micros).transpose());
    let micros = micros.collect::<Result<TimestampMicrosecondArray, Error>>()?;
    Ok(micros.with_timezone("UTC"))
}
