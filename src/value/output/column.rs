//! Columns: one Arrow array into cells.
//!
//! The array's type is looked at once for a run of rows; behind it stands a loop that knows its type.
//! What cannot be written as it lies, such as a dictionary, is turned into a plain array first.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, take};
use arrow::datatypes::*;

use super::cells::Cells;
use super::datetime::{self, Shown};
use super::interval::Interval;
use super::style::EncodeOptions;
use super::{array, bytea, float, integer, json, numeric};
use crate::error::{Error, Result};
use crate::value::types::{self, Format, oid};

/// As what values are written.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub oid: u32,
    pub format: Format,
    pub options: &'a EncodeOptions,
}

/// Appends one cell for each of `rows` of `array`.
///
/// # Errors
/// [`Error::OutOfRange`], [`Error::DatetimeOverflow`] for a value beyond the PostgreSQL type,
/// [`Error::Unsupported`] for one that has no such form.
pub(crate) fn write(cells: &mut Cells, array: &ArrayRef, rows: Range<usize>, target: Target) -> Result<()> {
    let writer = Writer { cells, rows, target };
    match array.data_type() {
        DataType::Null => {
            writer.rows.for_each(|_| writer.cells.push_null());
            Ok(())
        }
        DataType::Boolean => writer.booleans(array),
        DataType::Int8 => writer.integers::<Int8Type>(array),
        DataType::Int16 => writer.integers::<Int16Type>(array),
        DataType::Int32 => writer.integers::<Int32Type>(array),
        DataType::Int64 => writer.integers::<Int64Type>(array),
        DataType::UInt8 => writer.integers::<UInt8Type>(array),
        DataType::UInt16 => writer.integers::<UInt16Type>(array),
        DataType::UInt32 => writer.integers::<UInt32Type>(array),
        DataType::UInt64 => writer.wide_integers(array),
        DataType::Float16 => writer.singles::<Float16Type>(array, |value| value.to_f32()),
        DataType::Float32 => writer.singles::<Float32Type>(array, |value| value),
        DataType::Float64 => writer.doubles(array),
        DataType::Decimal32(_, scale) => writer.decimals::<Decimal32Type>(array, *scale),
        DataType::Decimal64(_, scale) => writer.decimals::<Decimal64Type>(array, *scale),
        DataType::Decimal128(_, scale) => writer.decimals::<Decimal128Type>(array, *scale),
        DataType::Decimal256(_, scale) => writer.wide_decimals(array, *scale),
        DataType::Utf8 => {
            let strings = array.as_string::<i32>();
            writer.strings(array, |row| strings.value(row))
        }
        DataType::LargeUtf8 => {
            let strings = array.as_string::<i64>();
            writer.strings(array, |row| strings.value(row))
        }
        DataType::Utf8View => {
            let strings = array.as_string_view();
            writer.strings(array, |row| strings.value(row))
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>();
            writer.bytes(array, |row| bytes.value(row))
        }
        DataType::LargeBinary => {
            let bytes = array.as_binary::<i64>();
            writer.bytes(array, |row| bytes.value(row))
        }
        DataType::BinaryView => {
            let bytes = array.as_binary_view();
            writer.bytes(array, |row| bytes.value(row))
        }
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary();
            writer.bytes(array, |row| bytes.value(row))
        }
        other => writer.temporal_or_nested(array, other),
    }
}

/// Turns an array that is written through another one into that: a dictionary or runs into their
/// values, any list into a [`ListArray`](arrow::array::ListArray). Others stay as they are.
pub(crate) fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            plain(&take(dictionary.values(), dictionary.keys(), None)?)
        }
        DataType::RunEndEncoded(_, values) => plain(&cast(array, values.data_type())?),
        DataType::List(_) => Ok(array.clone()),
        other => match types::list_element(other) {
            Some(element) => Ok(cast(array, &DataType::List(element.clone()))?),
            None => Ok(array.clone()),
        },
    }
}

/// The state of one column's run of rows.
struct Writer<'c, 't> {
    cells: &'c mut Cells,
    rows: Range<usize>,
    target: Target<'t>,
}

impl Writer<'_, '_> {
    fn temporal_or_nested(self, array: &ArrayRef, data_type: &DataType) -> Result<()> {
        match data_type {
            DataType::Date32 => self.dates::<Date32Type>(array, i64::from),
            DataType::Date64 => self.dates::<Date64Type>(array, |millis| millis.div_euclid(86_400_000)),
            DataType::Time32(TimeUnit::Second) => {
                self.times::<Time32SecondType>(array, |seconds| i64::from(seconds) * 1_000_000)
            }
            DataType::Time32(_) => {
                self.times::<Time32MillisecondType>(array, |millis| i64::from(millis) * 1_000)
            }
            DataType::Time64(TimeUnit::Nanosecond) => {
                self.times::<Time64NanosecondType>(array, |nanos| nanos / 1_000)
            }
            DataType::Time64(_) => self.times::<Time64MicrosecondType>(array, |micros| micros),
            DataType::Timestamp(unit, zone) => self.any_timestamps(array, *unit, zone.is_some()),
            DataType::Interval(unit) => self.any_intervals(array, *unit),
            DataType::Duration(unit) => self.durations(array, *unit),
            DataType::Dictionary(..) | DataType::RunEndEncoded(..) => {
                let array = plain(&array.slice(self.rows.start, self.rows.len()))?;
                write(self.cells, &array, 0..array.len(), self.target)
            }
            DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => {
                json::write(self.cells, array, self.rows, self.target)
            }
            _ if self.target.oid == oid::JSON => json::write(self.cells, array, self.rows, self.target),
            _ => array::write(self.cells, array, self.rows, self.target),
        }
    }

    /// Writes values that are always of one length.
    #[inline]
    fn fixed<const N: usize>(self, array: &ArrayRef, value: impl Fn(usize) -> Result<[u8; N]>) -> Result<()> {
        self.cells.fill_short(self.rows, array.nulls(), |room: &mut [u8; N], row| {
            *room = value(row)?;
            Ok(N)
        })
    }

    fn booleans(self, array: &ArrayRef) -> Result<()> {
        let values = array.as_boolean().values();
        let (yes, no) = match self.target.format {
            Format::Text => (b't', b'f'),
            Format::Binary => (1, 0),
        };
        self.fixed(array, |row| Ok([if values.value(row) { yes } else { no }]))
    }

    fn integers<T>(self, array: &ArrayRef) -> Result<()>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        let values: &[T::Native] = array.as_primitive::<T>().values();
        let oid = self.target.oid;
        if self.target.format == Format::Text {
            return self.cells.fill_short(
                self.rows,
                array.nulls(),
                |room: &mut [u8; integer::LONGEST], row| Ok(integer::write_i64(room, values[row].into())),
            );
        }
        let value = |row: usize| -> i64 { values[row].into() };
        match types::PgType::of_oid(oid).len {
            2 => self.fixed(array, |row| narrow::<i16>(value(row), oid).map(i16::to_be_bytes)),
            4 if types::is_unsigned(oid) => {
                self.fixed(array, |row| narrow::<u32>(value(row), oid).map(u32::to_be_bytes))
            }
            4 => self.fixed(array, |row| narrow::<i32>(value(row), oid).map(i32::to_be_bytes)),
            _ => self.fixed(array, |row| Ok(value(row).to_be_bytes())),
        }
    }

    /// Unsigned numbers of 64 bits are numerics, unless the catalog says that they are OIDs.
    fn wide_integers(self, array: &ArrayRef) -> Result<()> {
        let values: &[u64] = array.as_primitive::<UInt64Type>().values();
        let (nulls, oid) = (array.nulls(), self.target.oid);
        match self.target.format {
            Format::Text => {
                self.cells.fill_short(self.rows, nulls, |room: &mut [u8; integer::LONGEST], row| {
                    Ok(integer::write_u64(room, values[row]))
                })
            }
            Format::Binary if oid == oid::NUMERIC => self.cells.fill_short(self.rows, nulls, |room, row| {
                Ok(numeric::write_binary(room, i128::from(values[row]), 0))
            }),
            Format::Binary => {
                let signed = cast(array, &DataType::Int64)?;
                if signed.null_count() > array.null_count() {
                    return Err(integer_range(oid));
                }
                self.integers::<Int64Type>(&signed)
            }
        }
    }

    fn singles<T: ArrowPrimitiveType>(
        self,
        array: &ArrayRef,
        value: impl Fn(T::Native) -> f32,
    ) -> Result<()> {
        let values: &[T::Native] = array.as_primitive::<T>().values();
        let digits = self.target.options.extra_float_digits;
        match self.target.format {
            Format::Text => self.cells.fill(self.rows, array.nulls(), |out, row| {
                float::put_f32(out, value(values[row]), digits);
                Ok(())
            }),
            Format::Binary => self.fixed(array, |row| Ok(value(values[row]).to_be_bytes())),
        }
    }

    fn doubles(self, array: &ArrayRef) -> Result<()> {
        let values: &[f64] = array.as_primitive::<Float64Type>().values();
        let digits = self.target.options.extra_float_digits;
        match self.target.format {
            Format::Text => self.cells.fill(self.rows, array.nulls(), |out, row| {
                float::put_f64(out, values[row], digits);
                Ok(())
            }),
            Format::Binary => self.fixed(array, |row| Ok(values[row].to_be_bytes())),
        }
    }

    fn decimals<T>(self, array: &ArrayRef, scale: i8) -> Result<()>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i128>,
    {
        let values: &[T::Native] = array.as_primitive::<T>().values();
        let nulls = array.nulls();
        match self.target.format {
            Format::Text if numeric::SHORT_SCALES.contains(&scale) => {
                self.cells.fill_short(self.rows, nulls, |room, row| {
                    Ok(numeric::write_text(room, values[row].into(), scale))
                })
            }
            Format::Text => self.cells.fill(self.rows, nulls, |out, row| {
                numeric::put_text(out, values[row].into(), scale);
                Ok(())
            }),
            Format::Binary => self.cells.fill_short(self.rows, nulls, |room, row| {
                Ok(numeric::write_binary(room, values[row].into(), scale))
            }),
        }
    }

    fn wide_decimals(self, array: &ArrayRef, scale: i8) -> Result<()> {
        let values: &[i256] = array.as_primitive::<Decimal256Type>().values();
        match self.target.format {
            Format::Text => self.cells.fill(self.rows, array.nulls(), |out, row| {
                numeric::put_text(out, values[row], scale);
                Ok(())
            }),
            Format::Binary => self.cells.fill_short(self.rows, array.nulls(), |room, row| {
                Ok(numeric::write_binary(room, values[row], scale))
            }),
        }
    }

    fn strings<'a>(self, array: &ArrayRef, value: impl Fn(usize) -> &'a str) -> Result<()> {
        let oid = self.target.oid;
        let binary = self.target.format == Format::Binary;
        self.cells.fill(self.rows, array.nulls(), |out, row| {
            let text = value(row);
            if binary && types::is_reg(oid) {
                let number = text.parse::<u32>().map_err(|_| {
                    let name = types::type_name(oid);
                    Error::Unsupported(format!("no binary form of {name} \"{text}\" is known"))
                })?;
                out.extend_from_slice(&number.to_be_bytes());
                return Ok(());
            }
            if binary && oid == oid::JSONB {
                out.push(types::JSONB_VERSION);
            }
            out.extend_from_slice(text.as_bytes());
            Ok(())
        })
    }

    fn bytes<'a>(self, array: &ArrayRef, value: impl Fn(usize) -> &'a [u8]) -> Result<()> {
        let style = self.target.options.bytea_output;
        let uuid = self.target.oid == oid::UUID;
        let format = self.target.format;
        self.cells.fill(self.rows, array.nulls(), |out, row| {
            match format {
                Format::Binary => out.extend_from_slice(value(row)),
                Format::Text if uuid => bytea::put_uuid(out, value(row)),
                Format::Text => bytea::put_bytea(out, value(row), style),
            }
            Ok(())
        })
    }

    fn dates<T: ArrowPrimitiveType>(self, array: &ArrayRef, days: impl Fn(T::Native) -> i64) -> Result<()> {
        let values: &[T::Native] = array.as_primitive::<T>().values();
        let style = self.target.options.date_style;
        if self.target.format == Format::Binary {
            return self.fixed(array, |row| datetime::binary_days(days(values[row])).map(i32::to_be_bytes));
        }
        self.cells.fill_short(self.rows, array.nulls(), |room, row| {
            Ok(match days(values[row]) {
                datetime::DAYS_MIN => datetime::write_infinity(room, true),
                datetime::DAYS_MAX => datetime::write_infinity(room, false),
                days => datetime::write_date(room, days, style),
            })
        })
    }

    fn times<T: ArrowPrimitiveType>(self, array: &ArrayRef, micros: impl Fn(T::Native) -> i64) -> Result<()> {
        let values: &[T::Native] = array.as_primitive::<T>().values();
        let micros = |row: usize| match micros(values[row]) {
            micros @ 0..=datetime::DAY_MICROS => Ok(micros),
            _ => Err(datetime::out_of_range("time")),
        };
        match self.target.format {
            Format::Text => self.cells.fill_short(self.rows, array.nulls(), |room, row| {
                Ok(datetime::write_time(room, micros(row)?))
            }),
            Format::Binary => self.fixed(array, |row| micros(row).map(i64::to_be_bytes)),
        }
    }

    fn any_timestamps(self, array: &ArrayRef, unit: TimeUnit, zoned: bool) -> Result<()> {
        match unit {
            TimeUnit::Second => {
                self.timestamps::<TimestampSecondType>(array, zoned, |seconds| seconds.checked_mul(1_000_000))
            }
            TimeUnit::Millisecond => {
                self.timestamps::<TimestampMillisecondType>(array, zoned, |millis| millis.checked_mul(1_000))
            }
            TimeUnit::Microsecond => self.timestamps::<TimestampMicrosecondType>(array, zoned, Some),
            TimeUnit::Nanosecond => self
                .timestamps::<TimestampNanosecondType>(array, zoned, |nanos| Some(nanos.div_euclid(1_000))),
        }
    }

    #[inline]
    fn timestamps<T: ArrowPrimitiveType<Native = i64>>(
        self,
        array: &ArrayRef,
        zoned: bool,
        micros: impl Fn(i64) -> Option<i64>,
    ) -> Result<()> {
        let values: &[i64] = array.as_primitive::<T>().values();
        let options = self.target.options;
        let micros = |row: usize| match values[row] {
            infinite @ (i64::MIN | i64::MAX) => Ok(infinite),
            finite => micros(finite).ok_or_else(|| datetime::out_of_range("timestamp")),
        };
        if self.target.format == Format::Binary {
            return self.fixed(array, |row| datetime::binary_micros(micros(row)?).map(i64::to_be_bytes));
        }
        let mut clock = options.time_zone.clock();
        let is_utc = options.time_zone.is_utc();
        self.cells.fill_short(self.rows, array.nulls(), |room, row| {
            let micros = match micros(row)? {
                i64::MIN => return Ok(datetime::write_infinity(room, true)),
                i64::MAX => return Ok(datetime::write_infinity(room, false)),
                finite => finite,
            };
            let zone = zoned.then(|| Shown { offset: clock.offset_at(micros.div_euclid(1_000_000)), is_utc });
            Ok(datetime::write_timestamp(room, micros, zone, options.date_style))
        })
    }

    fn any_intervals(self, array: &ArrayRef, unit: IntervalUnit) -> Result<()> {
        match unit {
            IntervalUnit::YearMonth => self.intervals::<IntervalYearMonthType>(array, |months| {
                Ok(Interval { months, ..Interval::default() })
            }),
            IntervalUnit::DayTime => self.intervals::<IntervalDayTimeType>(array, |value| {
                let micros = i64::from(value.milliseconds) * 1_000;
                Ok(Interval { months: 0, days: value.days, micros })
            }),
            IntervalUnit::MonthDayNano => self.intervals::<IntervalMonthDayNanoType>(array, |value| {
                Ok(Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1_000 })
            }),
        }
    }

    fn durations(self, array: &ArrayRef, unit: TimeUnit) -> Result<()> {
        let of_micros = |micros: Option<i64>| {
            let micros = micros.ok_or_else(|| datetime::out_of_range("interval"))?;
            // The time between two timestamps, which PostgreSQL counts in days first.
            let days = (micros / datetime::DAY_MICROS) as i32;
            Ok(Interval { months: 0, days, micros: micros % datetime::DAY_MICROS })
        };
        match unit {
            TimeUnit::Second => {
                self.intervals::<DurationSecondType>(array, |value| of_micros(value.checked_mul(1_000_000)))
            }
            TimeUnit::Millisecond => {
                self.intervals::<DurationMillisecondType>(array, |value| of_micros(value.checked_mul(1_000)))
            }
            TimeUnit::Microsecond => {
                self.intervals::<DurationMicrosecondType>(array, |value| of_micros(Some(value)))
            }
            TimeUnit::Nanosecond => {
                self.intervals::<DurationNanosecondType>(array, |value| of_micros(Some(value / 1_000)))
            }
        }
    }

    fn intervals<T: ArrowPrimitiveType>(
        self,
        array: &ArrayRef,
        interval: impl Fn(T::Native) -> Result<Interval>,
    ) -> Result<()> {
        let values: &[T::Native] = array.as_primitive::<T>().values();
        let style = self.target.options.interval_style;
        let format = self.target.format;
        self.cells.fill(self.rows, array.nulls(), |out, row| {
            let interval = interval(values[row])?;
            match format {
                Format::Text => interval.put_text(out, style),
                Format::Binary => interval.put_binary(out),
            }
            Ok(())
        })
    }
}

fn narrow<T: TryFrom<i64>>(value: i64, oid: u32) -> Result<T> {
    T::try_from(value).map_err(|_| integer_range(oid))
}

fn integer_range(oid: u32) -> Error {
    Error::OutOfRange(format!("value is out of range for type {}", types::type_name(oid)))
}
