//! Moments and intervals that are made of their parts, and what is asked of them.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use datafusion::common::{Result, ScalarValue};

use super::row::{RowFunction, Values, failure};
use super::zone::zone_of;
use crate::error::Error;
use crate::value::input;

const MICROS: f64 = 1e6;

pub(super) fn functions() -> Vec<RowFunction> {
    let timestamp = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    vec![
        RowFunction::new("make_time", 3..=3, DataType::Time64(TimeUnit::Microsecond), |values| {
            let micros = time(values, 0)?.signed_duration_since(NaiveTime::MIN).num_microseconds();
            Ok(ScalarValue::Time64Microsecond(micros))
        }),
        RowFunction::new("make_timestamp", 6..=6, timestamp(None), |values| {
            Ok(ScalarValue::TimestampMicrosecond(Some(moment(values)?.and_utc().timestamp_micros()), None))
        }),
        RowFunction::new("make_timestamptz", 7..=7, timestamp(Some("UTC")), |values| {
            let zone = zone_of(&values.text(6).unwrap_or_default()).map_err(failure)?;
            let local = moment(values)?.and_utc().timestamp_micros();
            let instant = input::to_utc(local, &zone).map_err(failure)?;
            Ok(ScalarValue::TimestampMicrosecond(Some(instant), Some("UTC".into())))
        }),
        RowFunction::new("make_interval", 7..=7, DataType::Interval(IntervalUnit::MonthDayNano), interval),
        RowFunction::new("isfinite", 1..=1, DataType::Boolean, |values| {
            Ok(ScalarValue::Boolean(Some(is_finite(&values.all()[0]))))
        }),
        RowFunction::new("clock_timestamp", 0..=0, timestamp(Some("UTC")), |_| {
            let now: DateTime<chrono::Utc> = SystemTime::now().into();
            Ok(ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), Some("UTC".into())))
        })
        .volatile(),
        RowFunction::new("timeofday", 0..=0, DataType::Utf8, |_| {
            let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            let now = DateTime::from_timestamp_micros(micros as i64).unwrap_or_default();
            Ok(super::row::utf8(now.format("%a %b %d %H:%M:%S%.6f %Y UTC").to_string()))
        })
        .volatile(),
    ]
}

fn out_of_range(what: &str) -> datafusion::error::DataFusionError {
    failure(Error::DatetimeOverflow(format!("{what} field value out of range")))
}

/// Hours, minutes and seconds, from the argument at `from` on.
fn time(values: &Values<'_>, from: usize) -> Result<NaiveTime> {
    let whole = |at: usize| values.integer(from + at).and_then(|number| u32::try_from(number).ok());
    let micros = (number(values, from + 2) * MICROS).round();
    let (Some(hours), Some(minutes)) = (whole(0), whole(1)) else { return Err(out_of_range("time")) };
    if hours > 23 || minutes > 59 || !(0.0..60.0 * MICROS).contains(&micros) {
        return Err(out_of_range("time"));
    }
    let micros = (i64::from(hours) * 60 + i64::from(minutes)) * 60_000_000 + micros as i64;
    NaiveTime::from_num_seconds_from_midnight_opt(
        (micros / 1_000_000) as u32,
        (micros % 1_000_000) as u32 * 1_000,
    )
    .ok_or_else(|| out_of_range("time"))
}

fn moment(values: &Values<'_>) -> Result<NaiveDateTime> {
    let part = |at: usize| values.integer(at).and_then(|number| i32::try_from(number).ok());
    let (Some(year), Some(month), Some(day)) = (part(0), part(1), part(2)) else {
        return Err(out_of_range("date"));
    };
    // There is no year 0; the one before 1 is -1.
    let year = match year {
        0 => return Err(out_of_range("date")),
        ..0 => year + 1,
        _ => year,
    };
    let day = u32::try_from(day).ok();
    let date = u32::try_from(month).ok().zip(day);
    let date = date.and_then(|(month, day)| NaiveDate::from_ymd_opt(year, month, day));
    let date = date.ok_or_else(|| out_of_range("date"))?;
    Ok(date.and_time(time(values, 3)?))
}

fn number(values: &Values<'_>, index: usize) -> f64 {
    match values.all().get(index).and_then(|value| value.cast_to(&DataType::Float64).ok()) {
        Some(ScalarValue::Float64(Some(number))) => number,
        _ => 0.0,
    }
}

/// Years, months, weeks, days, hours, minutes and seconds.
fn interval(values: &Values<'_>) -> Result<ScalarValue> {
    let whole = |index: usize| values.integer(index).unwrap_or_default();
    let overflow = || failure(Error::DatetimeOverflow("interval out of range".to_owned()));
    let sum = |parts: [Option<i64>; 2]| parts[0].zip(parts[1]).and_then(|(a, b)| a.checked_add(b));
    let months = sum([whole(0).checked_mul(12), Some(whole(1))]);
    let days = sum([whole(2).checked_mul(7), Some(whole(3))]);
    let seconds = sum([whole(4).checked_mul(3_600), whole(5).checked_mul(60)]);
    let rest = (number(values, 6) * MICROS).round();
    let nanos = seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    let nanos = nanos.and_then(|nanos| nanos.checked_add((rest as i64).checked_mul(1_000)?));
    let months = months.and_then(|months| i32::try_from(months).ok()).ok_or_else(overflow)?;
    let days = days.and_then(|days| i32::try_from(days).ok()).ok_or_else(overflow)?;
    let interval = IntervalMonthDayNano::new(months, days, nanos.ok_or_else(overflow)?);
    Ok(ScalarValue::IntervalMonthDayNano(Some(interval)))
}

fn is_finite(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Date32(Some(days)) => !matches!(*days, i32::MAX | i32::MIN),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => !matches!(*micros, i64::MAX | i64::MIN),
        _ => true,
    }
}
