//! Parameters as drivers send them: by declared and by inferred type, as text and in binary.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;

use super::decode_parameter;
use crate::error::Result;
use crate::value::output::TimeZone;
use crate::value::types::{Format, oid};

fn decode(data_type: &DataType, oid: u32, format: Format, bytes: &[u8]) -> Result<ScalarValue> {
    decode_parameter(data_type, oid, format, Some(bytes), &"Europe/Berlin".parse::<TimeZone>().unwrap())
}

/// A text without a declared type.
fn text(data_type: &DataType, text: &str) -> Result<ScalarValue> {
    decode(data_type, 0, Format::Text, text.as_bytes())
}

fn binary(oid: u32, hex: &str) -> Result<ScalarValue> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
    decode(&DataType::Null, oid, Format::Binary, &bytes)
}

fn list(element: DataType) -> DataType {
    DataType::List(Field::new_list_field(element, true).into())
}

#[test]
fn texts_are_read_as_the_statement_needs_them() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let cases = [
        (DataType::Int32, " -5 ", ScalarValue::Int32(Some(-5))),
        (DataType::UInt8, "255", ScalarValue::UInt8(Some(255))),
        (DataType::UInt64, "18446744073709551615", ScalarValue::UInt64(Some(u64::MAX))),
        (DataType::Boolean, "YES", ScalarValue::Boolean(Some(true))),
        (DataType::Boolean, "off", ScalarValue::Boolean(Some(false))),
        (DataType::Float64, "-Infinity", ScalarValue::Float64(Some(f64::NEG_INFINITY))),
        (DataType::Float32, "1e10", ScalarValue::Float32(Some(1e10))),
        (DataType::Decimal128(15, 2), "1.5", ScalarValue::Decimal128(Some(150), 15, 2)),
        (DataType::Utf8View, "5", ScalarValue::Utf8View(Some("5".to_owned()))),
        (DataType::Null, "5", ScalarValue::Utf8(Some("5".to_owned()))),
        (DataType::Binary, "\\x00fF", ScalarValue::Binary(Some(vec![0, 255]))),
        (DataType::Binary, "a\\\\\\001", ScalarValue::Binary(Some(b"a\\\x01".to_vec()))),
        (DataType::Date32, "2013-01-01", ScalarValue::Date32(Some(15_706))),
        (micros, "2013-01-01 05:00", ScalarValue::TimestampMicrosecond(Some(1_357_016_400_000_000), None)),
    ];
    for (data_type, input, value) in cases {
        assert_eq!(text(&data_type, input).unwrap(), value, "{input} as {data_type}");
    }
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let berlin = ScalarValue::TimestampNanosecond(Some(1_357_016_400_000_000_000), Some("UTC".into()));
    assert_eq!(text(&nanos, "2013-01-01 06:00").unwrap(), berlin, "in the session's zone");
    assert_eq!(decode(&nanos, oid::DATE, Format::Text, b"1970-01-02").unwrap().to_string(), "82800000000000");
}

#[test]
fn a_declared_type_is_fitted_to_the_statement() {
    let sent = decode(&DataType::Int64, oid::INT2, Format::Binary, &[0xff, 0xfb]).unwrap();
    assert_eq!(sent, ScalarValue::Int64(Some(-5)));
    let sent = decode(&DataType::Int32, oid::VARCHAR, Format::Text, b"7").unwrap();
    assert_eq!(sent, ScalarValue::Int32(Some(7)));
    let sent = decode(&DataType::Float64, oid::NUMERIC, Format::Text, b"0.5").unwrap();
    assert_eq!(sent, ScalarValue::Float64(Some(0.5)));
    let zoned =
        decode(&DataType::Timestamp(TimeUnit::Microsecond, None), oid::TIMESTAMPTZ, Format::Text, b"epoch");
    assert_eq!(zoned.unwrap(), ScalarValue::TimestampMicrosecond(Some(3_600_000_000), None));
    let too_big = decode(&DataType::Int16, oid::INT8, Format::Text, b"40000").unwrap_err();
    assert_eq!(too_big.sqlstate(), "22003");
    let null = decode_parameter(&DataType::Date32, 0, Format::Binary, None, &TimeZone::utc()).unwrap();
    assert_eq!(null, ScalarValue::Date32(None));
}

#[test]
fn uuids_and_json() {
    let id = "A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let sent = decode(&DataType::FixedSizeBinary(16), oid::UUID, Format::Text, id.as_bytes()).unwrap();
    assert_eq!(text(&DataType::FixedSizeBinary(16), id).unwrap(), sent);
    assert_eq!(text(&DataType::FixedSizeBinary(16), "no id").unwrap_err().sqlstate(), "22P02");
    let ScalarValue::FixedSizeBinary(16, Some(bytes)) = sent else { panic!("not a uuid") };
    assert_eq!(bytes[..4], [0xa0, 0xee, 0xbc, 0x99]);
    let shown = decode(&DataType::Utf8, oid::UUID, Format::Binary, &bytes).unwrap();
    assert_eq!(shown, ScalarValue::Utf8(Some(id.to_lowercase())));
    let json = decode(&DataType::Utf8, oid::JSONB, Format::Binary, b"\x01{\"a\":[1]}").unwrap();
    assert_eq!(json, ScalarValue::Utf8(Some("{\"a\":[1]}".to_owned())));
    let broken = decode(&DataType::Utf8, oid::JSON, Format::Text, b"{a}").unwrap_err();
    assert_eq!(broken.sqlstate(), "22P02");
}

/// The hex digits are what PostgreSQL's send functions give.
#[test]
fn binary_values() {
    let cases = [
        (oid::BOOL, "01", "true"),
        (oid::INT4, "fffffffb", "-5"),
        (oid::INT8, "fffffffffffffffb", "-5"),
        (oid::OID, "ffffffff", "4294967295"),
        (oid::FLOAT4, "bfc00000", "-1.5"),
        (oid::FLOAT8, "3ff8000000000000", "1.5"),
        (oid::DATE, "0000128d", "2013-01-01"),
        (oid::TIME, "0000000446c40e38", "18367123000"),
        (oid::TIMESTAMP, "00017531c5421400", "1357016400000000"),
        (oid::TIMESTAMP, "7fffffffffffffff", "9223372036854775807"),
        (oid::NUMERIC, "0002000040000002007b1194", "-123.4500000000"),
        (oid::TEXT, "c3a9", "é"),
    ];
    for (oid, hex, shown) in cases {
        let value = binary(oid, hex).unwrap();
        let shown_value = match value {
            ScalarValue::Decimal128(Some(unscaled), _, 10) => {
                format!("{}.{:010}", unscaled / 10_i128.pow(10), (unscaled % 10_i128.pow(10)).abs())
            }
            other => other.to_string(),
        };
        assert_eq!(shown_value, shown, "{oid} {hex}");
    }
    let interval = binary(oid::INTERVAL, "000000036c9361a0000000030000000e").unwrap();
    assert_eq!(interval.data_type(), DataType::Interval(IntervalUnit::MonthDayNano));
    assert_eq!(interval, text(&interval.data_type(), "1 year 2 mons 3 days 04:05:06.5").unwrap());
}

#[test]
fn bytes_that_are_no_value_are_refused() {
    let cases = [
        (oid::INT4, "0000", "08P01"),
        (oid::INT4, "0000000000", "22P03"),
        (oid::NUMERIC, "00010000123400000001", "22P03"),
        (oid::NUMERIC, "000100000000000027 10".trim(), "22P03"),
        (oid::NUMERIC, "00050000000000000001", "08P01"),
        (oid::TIME, "0000ffffffffffff", "22008"),
        (oid::TEXT, "ff", "22021"),
        (oid::TEXT, "6100", "22021"),
        (oid::JSONB, "0231", "22P03"),
        (1007, "7fffffff0000000000000017", "54000"),
        (1007, "0000000100000000000000177fffffff00000001", "08P01"),
        (600, "00", "0A000"),
    ];
    for (oid, hex, state) in cases {
        let error = binary(oid, &hex.replace(' ', "")).unwrap_err();
        assert_eq!(error.sqlstate(), state, "{oid} {hex}: {error}");
    }
}

#[test]
fn texts_that_are_no_value_are_refused() {
    let cases = [
        (DataType::Int32, "abc", "22P02", "invalid input syntax for type integer: \"abc\""),
        (DataType::Int16, "40000", "22003", "value \"40000\" is out of range for type smallint"),
        (DataType::Boolean, "maybe", "22P02", "invalid input syntax for type boolean: \"maybe\""),
        (DataType::Boolean, "o", "22P02", "invalid input syntax for type boolean: \"o\""),
        (DataType::Float64, "1e400", "22003", "value \"1e400\" is out of range for type double precision"),
        (DataType::Float64, "1e-400", "22003", "value \"1e-400\" is out of range for type double precision"),
        (DataType::Decimal128(5, 2), "1,5", "22P02", "invalid input syntax for type numeric: \"1,5\""),
        (DataType::Date32, "soon", "22007", "invalid input syntax for type date: \"soon\""),
        (DataType::Binary, "\\x0", "22023", "invalid hexadecimal data: odd number of digits"),
        (list(DataType::Int32), "{1", "22P02", "malformed array literal: \"{1\""),
    ];
    for (data_type, input, state, message) in cases {
        let error = text(&data_type, input).unwrap_err();
        assert_eq!((error.sqlstate(), error.to_string().as_str()), (state, message));
    }
}

#[test]
fn arrays() {
    let ints = list(DataType::Int32);
    let one = text(&ints, " { 1, NULL ,3 } ").unwrap();
    assert_eq!(one.to_string(), "[1, , 3]");
    assert_eq!(text(&ints, "[0:2]={1,NULL,3}").unwrap(), one);
    let sent = "0000000100000001000000170000000300000001 0000000400000001 ffffffff 0000000400000003";
    assert_eq!(binary(1007, &sent.replace(' ', "")).unwrap(), one);
    assert_eq!(text(&ints, "{}").unwrap(), binary(1007, "000000000000000000000017").unwrap());
    let words = text(&list(DataType::Utf8), r#"{"a b","q\"\\",NULL,"NULL",é,""}"#).unwrap();
    assert_eq!(words.to_string(), "[a b, q\"\\, , NULL, é, ]");
    let nested = text(&list(list(DataType::Int64)), "{{1,2},{3,4}}").unwrap();
    assert_eq!(nested.to_string(), "[[1, 2], [3, 4]]");
    let large = DataType::LargeList(Field::new_list_field(DataType::Int64, true).into());
    assert_eq!(text(&large, "{1}").unwrap().data_type(), large);
    assert_eq!(text(&ints, "{{1}}").unwrap_err().sqlstate(), "42804");
    for broken in ["1,2", "{1,,2}", "{1}}", "{,}", "{\"a}", "{1}x"] {
        assert_eq!(text(&ints, broken).unwrap_err().sqlstate(), "22P02", "{broken}");
    }
    let rounded = text(&list(DataType::Decimal128(5, 1)), "{1.25,2}").unwrap();
    assert_eq!(rounded.to_string(), "[1.3, 2.0]");
}
