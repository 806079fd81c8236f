//! Intervals: what is reckoned with them, and the time between two moments.
//!
//! An interval keeps months, days and time apart. Multiplied, its fractions of months become days
//! and those of days time; compared, a month counts 30 days and a day 24 hours.
//!
//! Source: `interval_mul`, `timestamp_age` in PostgreSQL's `timestamp.c`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::*;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::SessionFacts;
use super::cast::encode_options;
use crate::error::Error;
use crate::value::input;
use crate::value::output::datetime::{Civil, DAY_MICROS};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAYS_PER_MONTH: f64 = 30.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// What is done with intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntervalOperation {
    /// An interval times a number.
    Multiply,
    /// An interval by a number.
    Divide,
    /// The number by which intervals are compared.
    Order,
    /// Every 24 hours a day.
    JustifyHours,
    /// Every 30 days a month.
    JustifyDays,
    /// Both.
    Justify,
}

impl IntervalOperation {
    /// The function that does it.
    pub fn function(self) -> Arc<ScalarUDF> {
        let types = match self {
            Self::Multiply | Self::Divide => vec![INTERVAL, DataType::Float64],
            _ => vec![INTERVAL],
        };
        let signature = Signature::exact(types, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Reckoned { operation: self, signature }))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Reckoned {
    operation: IntervalOperation,
    signature: Signature,
}

impl ScalarUDFImpl for Reckoned {
    fn name(&self) -> &str {
        match self.operation {
            IntervalOperation::Multiply => "interval_mul",
            IntervalOperation::Divide => "interval_div",
            IntervalOperation::Order => "interval_cmp_value",
            IntervalOperation::JustifyHours => "justify_hours",
            IntervalOperation::JustifyDays => "justify_days",
            IntervalOperation::Justify => "justify_interval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.operation == IntervalOperation::Order { DataType::Int64 } else { INTERVAL })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        by_rows(&args, |columns| {
            let intervals = columns[0].as_primitive::<IntervalMonthDayNanoType>();
            if self.operation == IntervalOperation::Order {
                return Ok(Arc::new(intervals.unary::<_, Int64Type>(order)));
            }
            let Some(factors) = columns.get(1) else {
                let justified = intervals.unary::<_, IntervalMonthDayNanoType>(|one| self.justified(one));
                return Ok(Arc::new(justified));
            };
            let factors = factors.as_primitive::<Float64Type>();
            let reckoned = |(interval, factor): (Option<_>, Option<f64>)| match (interval, factor) {
                (Some(interval), Some(factor)) => self.reckon(interval, factor).map(Some),
                _ => Ok(None),
            };
            let results = intervals.iter().zip(factors.iter()).map(reckoned);
            Ok(Arc::new(results.collect::<Result<PrimitiveArray<IntervalMonthDayNanoType>, Error>>()?))
        })
    }
}

impl Reckoned {
    fn reckon(&self, interval: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano, Error> {
        match self.operation {
            IntervalOperation::Divide if factor == 0.0 => Err(Error::DivisionByZero),
            IntervalOperation::Divide => scaled(interval, |value| value / factor),
            _ => scaled(interval, |value| value * factor),
        }
    }
}

impl Reckoned {
    /// Moves whole days out of the time, and whole months out of the days, all with one sign.
    fn justified(&self, interval: IntervalMonthDayNano) -> IntervalMonthDayNano {
        const DAY_NANOS: i64 = DAY_MICROS * 1_000;
        let (mut months, mut days, mut nanos) =
            (i64::from(interval.months), i64::from(interval.days), interval.nanoseconds);
        if self.operation != IntervalOperation::JustifyDays {
            days += nanos / DAY_NANOS;
            nanos %= DAY_NANOS;
        }
        if self.operation != IntervalOperation::JustifyHours {
            months += days / 30;
            days %= 30;
        }
        if self.operation != IntervalOperation::JustifyHours {
            let below = if days != 0 || self.operation == IntervalOperation::JustifyDays {
                days.signum()
            } else {
                nanos.signum()
            };
            if months != 0 && below == -months.signum() {
                (days, months) = (days + 30 * months.signum(), months - months.signum());
            }
        }
        if self.operation != IntervalOperation::JustifyDays && days != 0 && nanos.signum() == -days.signum() {
            (nanos, days) = (nanos + DAY_NANOS * days.signum(), days - days.signum());
        }
        IntervalMonthDayNano::new(months as i32, days as i32, nanos)
    }
}

/// Scales every part, and lets fractions fall down to the next.
fn scaled(interval: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Result<IntervalMonthDayNano, Error> {
    // Six decimals are what a time holds; the rest is dust of the multiplication.
    let rounded = |value: f64| (value * 1e6).round_ties_even() / 1e6;
    let (exact_months, exact_days) = (scale(interval.months.into()), scale(interval.days.into()));
    let (months, mut days) = (exact_months.trunc(), exact_days.trunc());
    let days_of_months = rounded((exact_months - months) * DAYS_PER_MONTH);
    let mut seconds = rounded((exact_days - days + days_of_months.fract()) * SECONDS_PER_DAY);
    if seconds.abs() >= SECONDS_PER_DAY {
        let whole = (seconds / SECONDS_PER_DAY).trunc();
        days += whole;
        seconds -= whole * SECONDS_PER_DAY;
    }
    days += days_of_months.trunc();
    let micros = (scale(interval.nanoseconds as f64 / 1e3) + seconds * 1e6).round_ties_even();
    let fits = |value: f64| value.is_finite() && value.abs() <= f64::from(i32::MAX);
    if !fits(months) || !fits(days) || !micros.is_finite() || micros.abs() >= 9.2e15 {
        return Err(Error::DatetimeOverflow("interval out of range".to_owned()));
    }
    Ok(IntervalMonthDayNano::new(months as i32, days as i32, micros as i64 * 1_000))
}

/// Microseconds, a month counted as 30 days.
fn order(interval: IntervalMonthDayNano) -> i64 {
    let days = i64::from(interval.months) * 30 + i64::from(interval.days);
    days.saturating_mul(DAY_MICROS).saturating_add(interval.nanoseconds / 1_000)
}

/// `age(a, b)`: from b to a in years, months, days and time, as people count it.
pub(super) fn age(facts: &Arc<SessionFacts>) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Stable);
    Arc::new(ScalarUDF::new_from_impl(Age { facts: Arc::clone(facts), signature }))
}

#[derive(Debug)]
struct Age {
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl PartialEq for Age {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.facts, &other.facts)
    }
}

impl Eq for Age {}

impl std::hash::Hash for Age {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.facts).hash(state);
    }
}

impl ScalarUDFImpl for Age {
    fn name(&self) -> &str {
        "age"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = types else {
            return Err(Error::FunctionNotFound("function age takes two timestamps".to_owned()).into());
        };
        let zoned = |ty: &DataType| matches!(ty, DataType::Timestamp(_, Some(_)));
        let zone = (zoned(left) || zoned(right)).then(|| Arc::from("UTC"));
        Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, zone); 2])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = encode_options(&self.facts)?.time_zone;
        by_rows(&args, |columns| {
            let zoned = matches!(columns[0].data_type(), DataType::Timestamp(_, Some(_)));
            let local = |micros: i64| if zoned { input::to_local(micros, &zone) } else { micros };
            let side = |column: usize| columns[column].as_primitive::<TimestampMicrosecondType>().iter();
            let ages = side(0).zip(side(1)).map(|(left, right)| Some(between(local(left?), local(right?))));
            Ok(Arc::new(ages.collect::<PrimitiveArray<IntervalMonthDayNanoType>>()))
        })
    }
}

/// From `right` to `left`, both in microseconds since 1970 as the clock shows them.
fn between(left: i64, right: i64) -> IntervalMonthDayNano {
    let sign = if left < right { -1 } else { 1 };
    let (later, earlier) = if left < right { (right, left) } else { (left, right) };
    let civil = |micros: i64| Civil::from_days(micros.div_euclid(DAY_MICROS));
    let (late, early) = (civil(later), civil(earlier));
    let mut months = (late.year - early.year) * 12 + i64::from(late.month) - i64::from(early.month);
    let mut days = i64::from(late.day) - i64::from(early.day);
    let mut time = later.rem_euclid(DAY_MICROS) - earlier.rem_euclid(DAY_MICROS);
    if time < 0 {
        time += DAY_MICROS;
        days -= 1;
    }
    if days < 0 {
        // A month has as many days as the one that the earlier moment lies in.
        days += days_in_month(early);
        months -= 1;
    }
    IntervalMonthDayNano::new((sign * months) as i32, (sign * days) as i32, sign * time * 1_000)
}

fn days_in_month(civil: Civil) -> i64 {
    let first = |year: i64, month: u32| Civil { year, month, day: 1 }.days();
    let next = if civil.month == 12 { first(civil.year + 1, 1) } else { first(civil.year, civil.month + 1) };
    next - first(civil.year, civil.month)
}

/// Runs a body over the arguments as columns, over one row if they are all constant.
pub(super) fn by_rows(
    args: &ScalarFunctionArgs,
    body: impl Fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { args.number_rows };
    let columns: Result<Vec<ArrayRef>> = args.args.iter().map(|value| value.to_array(rows)).collect();
    let result = body(&columns?)?;
    match constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
        false => Ok(ColumnarValue::Array(result)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_fall_down() {
        let of =
            |months, days, hours: i64| IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000);
        assert_eq!(scaled(of(1, 0, 0), |value| value * 1.5).unwrap(), of(1, 15, 0));
        assert_eq!(scaled(of(0, 1, 3), |value| value * 2.5).unwrap().days, 2);
        assert_eq!(scaled(of(0, 0, 1), |value| value * 3.0).unwrap(), of(0, 0, 3));
        let seventh = scaled(of(0, 1, 0), |value| value / 7.0).unwrap();
        assert_eq!(seventh, IntervalMonthDayNano::new(0, 0, 12_342_857_143_000));
        assert!(scaled(of(1, 0, 0), |value| value * 1e12).is_err());
    }

    #[test]
    fn a_month_counts_thirty_days() {
        assert_eq!(order(IntervalMonthDayNano::new(1, 0, 0)), order(IntervalMonthDayNano::new(0, 30, 0)));
        assert!(
            order(IntervalMonthDayNano::new(0, 0, 90_000_000_000_000))
                > order(IntervalMonthDayNano::new(0, 1, 0))
        );
    }

    #[test]
    fn an_age_is_counted_by_the_calendar() {
        let micros = |year, month, day| Civil { year, month, day }.days() * DAY_MICROS;
        let of = |months, days| IntervalMonthDayNano::new(months, days, 0);
        assert_eq!(between(micros(2013, 3, 15), micros(2011, 12, 31)), of(14, 15));
        assert_eq!(between(micros(2013, 3, 1), micros(2013, 1, 31)), of(1, 1));
        assert_eq!(between(micros(2011, 12, 31), micros(2013, 3, 15)), of(-14, -15));
    }
}
