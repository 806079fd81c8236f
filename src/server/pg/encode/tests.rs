//! Every type as text and in binary. The texts are what PostgreSQL 15 prints for the value, the
//! binary forms what its send functions give.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use arrow::record_batch::RecordBatch;
use bytes::BytesMut;

use super::{EncodeOptions, RowEncoder, row_description};
use crate::error::{Error, Result};
use crate::value::types::{Format, PG_TYPE_KEY};

/// The values of the rows of one message after another.
fn rows(mut out: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rows = Vec::new();
    while let [b'D', a, b, c, d, rest @ ..] = out {
        let length = i32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        let (mut body, next) = rest.split_at(length);
        out = next;
        let count = i16::from_be_bytes([body[0], body[1]]);
        body = &body[2..];
        let mut row = Vec::new();
        for _ in 0..count {
            let length = i32::from_be_bytes(body[..4].try_into().unwrap());
            body = &body[4..];
            row.push(usize::try_from(length).ok().map(|length| {
                let (value, rest) = body.split_at(length);
                body = rest;
                value.to_vec()
            }));
        }
        assert!(body.is_empty(), "bytes behind the last value");
        rows.push(row);
    }
    assert!(out.is_empty(), "bytes behind the last row");
    rows
}

fn encode(
    field: Field,
    array: ArrayRef,
    format: Format,
    options: &EncodeOptions,
) -> Result<Vec<Option<Vec<u8>>>> {
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
    let mut encoder = RowEncoder::new(&schema, &[format], options)?;
    let mut out = BytesMut::new();
    encoder.encode(&batch, 0..batch.num_rows(), &mut out)?;
    Ok(rows(&out).into_iter().flatten().collect())
}

fn field(array: &ArrayRef) -> Field {
    Field::new("c", array.data_type().clone(), true)
}

fn marked(array: &ArrayRef, name: &str) -> Field {
    field(array).with_metadata([(PG_TYPE_KEY.to_owned(), name.to_owned())].into())
}

fn strings(values: Vec<Option<Vec<u8>>>) -> Vec<Option<String>> {
    values.into_iter().map(|value| value.map(|bytes| String::from_utf8(bytes).unwrap())).collect()
}

fn text_in(options: &EncodeOptions, array: impl Array + 'static) -> Vec<Option<String>> {
    let array: ArrayRef = Arc::new(array);
    strings(encode(field(&array), array, Format::Text, options).unwrap())
}

fn text(array: impl Array + 'static) -> Vec<Option<String>> {
    text_in(&EncodeOptions::default(), array)
}

fn texts<const N: usize>(values: [&str; N]) -> Vec<Option<String>> {
    values.iter().map(|value| (*value != "∅").then(|| (*value).to_owned())).collect()
}

/// Binary values as hex, nulls as `∅`.
fn binary_of(field: Field, array: ArrayRef) -> Vec<String> {
    let values = encode(field, array, Format::Binary, &EncodeOptions::default()).unwrap();
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    values.into_iter().map(|value| value.map_or("∅".to_owned(), hex)).collect()
}

fn binary(array: impl Array + 'static) -> Vec<String> {
    let array: ArrayRef = Arc::new(array);
    binary_of(field(&array), array)
}

#[test]
fn booleans_and_integers() {
    let booleans = BooleanArray::from(vec![Some(true), None, Some(false)]);
    assert_eq!(text(booleans.clone()), texts(["t", "∅", "f"]));
    assert_eq!(binary(booleans), ["01", "∅", "00"]);
    assert_eq!(text(Int8Array::from(vec![-128, 127])), texts(["-128", "127"]));
    assert_eq!(binary(Int8Array::from(vec![-5, 127])), ["fffb", "007f"]);
    assert_eq!(binary(UInt8Array::from(vec![255])), ["00ff"]);
    assert_eq!(binary(UInt16Array::from(vec![65_535])), ["0000ffff"]);
    assert_eq!(binary(UInt32Array::from(vec![u32::MAX])), ["00000000ffffffff"]);
    assert_eq!(binary(Int32Array::from(vec![Some(-5), None])), ["fffffffb", "∅"]);
    assert_eq!(binary(Int64Array::from(vec![-5])), ["fffffffffffffffb"]);
    let extremes = text(Int64Array::from(vec![i64::MIN, 0, i64::MAX]));
    assert_eq!(extremes, texts(["-9223372036854775808", "0", "9223372036854775807"]));
    assert_eq!(text(UInt64Array::from(vec![u64::MAX])), texts(["18446744073709551615"]));
    // 1844,6744,0737,0955,1615 with weight 4.
    assert_eq!(binary(UInt64Array::from(vec![u64::MAX])), ["000500040000000007341a5802e103bb064f"]);
    assert_eq!(text(NullArray::new(2)), texts(["∅", "∅"]));
}

#[test]
fn catalog_types() {
    let oids: ArrayRef = Arc::new(Int64Array::from(vec![4_294_967_295]));
    assert_eq!(binary_of(marked(&oids, "oid"), oids.clone()), ["ffffffff"]);
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
    let options = EncodeOptions::default();
    let error = encode(marked(&negative, "oid"), negative, Format::Binary, &options).unwrap_err();
    assert!(matches!(error, Error::OutOfRange(_)), "{error}");
    let name: ArrayRef = Arc::new(StringArray::from(vec!["pg_class"]));
    assert_eq!(binary_of(marked(&name, "name"), name.clone()), ["70675f636c617373"]);
    let error = encode(marked(&name, "regclass"), name, Format::Binary, &options).unwrap_err();
    assert_eq!(error.sqlstate(), "0A000");
    let json: ArrayRef = Arc::new(StringViewArray::from(vec!["1"]));
    assert_eq!(binary_of(marked(&json, "jsonb"), json.clone()), ["0131"]);
    let keys = ListArray::from_iter_primitive::<Int16Type, _, _>([Some(vec![Some(1), Some(2)])]);
    let keys: ArrayRef = Arc::new(keys);
    let vector = marked(&keys, "int2vector");
    let shown = encode(vector.clone(), keys.clone(), Format::Text, &options).unwrap();
    assert_eq!(strings(shown), texts(["1 2"]));
    let sent = "0000000100000000000000150000000200000000000000020001000000020002";
    assert_eq!(binary_of(vector, keys), [sent]);
}

#[test]
fn floats() {
    let doubles =
        Float64Array::from(vec![Some(1e20), None, Some(f64::NEG_INFINITY), Some(f64::NAN), Some(-0.0)]);
    assert_eq!(text(doubles), texts(["1e+20", "∅", "-Infinity", "NaN", "-0"]));
    assert_eq!(text(Float32Array::from(vec![0.1, 1e6])), texts(["0.1", "1e+06"]));
    assert_eq!(text(Float16Array::from(vec![half(1.5)])), texts(["1.5"]));
    assert_eq!(binary(Float64Array::from(vec![1.5])), ["3ff8000000000000"]);
    assert_eq!(binary(Float32Array::from(vec![-1.5])), ["bfc00000"]);
    assert_eq!(binary(Float16Array::from(vec![half(1.5)])), ["3fc00000"]);
}

fn half(value: f32) -> <Float16Type as ArrowPrimitiveType>::Native {
    <Float16Type as ArrowPrimitiveType>::Native::from_f32(value)
}

#[test]
fn decimals() {
    let prices =
        Decimal128Array::from(vec![Some(-12_345), None, Some(7)]).with_precision_and_scale(15, 2).unwrap();
    assert_eq!(text(prices.clone()), texts(["-123.45", "∅", "0.07"]));
    assert_eq!(
        binary(prices),
        ["000200004000".to_owned() + "0002007b1194", "∅".to_owned(), "0001ffff0000000202bc".to_owned()]
    );
    // Beyond 96 bits, and beyond 128.
    let long = Decimal128Array::from(vec![10_i128.pow(37) + 1]).with_precision_and_scale(38, 0).unwrap();
    assert_eq!(text(long.clone()), texts(["10000000000000000000000000000000000001"]));
    assert_eq!(binary(long), ["000a00090000000000 0a0000000000000000000000000000000000 01".replace(' ', "")]);
    let wide = i256::from_string(&"1".repeat(70)).unwrap();
    let wide = Decimal256Array::from(vec![wide]).with_precision_and_scale(76, 4).unwrap();
    assert_eq!(text(wide), vec![Some(format!("{}.1111", "1".repeat(66)))]);
    let small = Decimal32Array::from(vec![1_050]).with_precision_and_scale(5, 3).unwrap();
    assert_eq!(text(small), texts(["1.050"]));
}

#[test]
fn strings_and_bytes() {
    let long = "a string of more than thirty-two bytes, so that no block holds it";
    let expected = texts(["", "∅", long, "é"]);
    let values = vec![Some(""), None, Some(long), Some("é")];
    assert_eq!(text(StringArray::from(values.clone())), expected);
    assert_eq!(text(LargeStringArray::from(values.clone())), expected);
    assert_eq!(text(StringViewArray::from(values.clone())), expected);
    let dictionary: DictionaryArray<Int8Type> = values.into_iter().collect();
    assert_eq!(text(dictionary), expected);
    let runs = RunArray::try_new(&Int32Array::from(vec![2, 3]), &Int64Array::from(vec![7, 8])).unwrap();
    assert_eq!(text(runs), texts(["7", "7", "8"]));
    let bytes = vec![Some(&[0_u8, 255][..]), None];
    assert_eq!(text(BinaryArray::from(bytes.clone())), texts(["\\x00ff", "∅"]));
    assert_eq!(binary(BinaryArray::from(bytes.clone())), ["00ff", "∅"]);
    assert_eq!(binary(LargeBinaryArray::from(bytes.clone())), ["00ff", "∅"]);
    assert_eq!(binary(BinaryViewArray::from(bytes)), ["00ff", "∅"]);
}

#[test]
fn uuids_have_metadata() {
    let id = (0..16).collect::<Vec<u8>>();
    let array: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([id].into_iter()).unwrap());
    let options = EncodeOptions::default();
    let shown = encode(marked(&array, "uuid"), array.clone(), Format::Text, &options).unwrap();
    assert_eq!(strings(shown), texts(["00010203-0405-0607-0809-0a0b0c0d0e0f"]));
    assert_eq!(binary_of(marked(&array, "uuid"), array.clone()), ["000102030405060708090a0b0c0d0e0f"]);
    let plain = encode(field(&array), array, Format::Text, &options).unwrap();
    assert_eq!(strings(plain), texts(["\\x000102030405060708090a0b0c0d0e0f"]));
}

#[test]
fn dates_and_times() {
    let dates = Date32Array::from(vec![Some(15_706), None, Some(-719_529), Some(i32::MAX), Some(i32::MIN)]);
    assert_eq!(text(dates.clone()), texts(["2013-01-01", "∅", "0002-12-31 BC", "infinity", "-infinity"]));
    assert_eq!(binary(dates), ["0000128d", "∅", "fff4da8a", "7fffffff", "80000000"]);
    assert_eq!(text(Date64Array::from(vec![-1])), texts(["1969-12-31"]));
    let micros = 18_367_123_000;
    assert_eq!(text(Time64MicrosecondArray::from(vec![micros])), texts(["05:06:07.123"]));
    assert_eq!(text(Time64NanosecondArray::from(vec![micros * 1000 + 999])), texts(["05:06:07.123"]));
    assert_eq!(text(Time32SecondArray::from(vec![86_400])), texts(["24:00:00"]));
    assert_eq!(binary(Time32MillisecondArray::from(vec![18_367_123])), ["0000000446c40e38"]);
    let late: ArrayRef = Arc::new(Time32SecondArray::from(vec![86_401]));
    let error = encode(field(&late), late, Format::Text, &EncodeOptions::default()).unwrap_err();
    assert_eq!(error.sqlstate(), "22008");
}

#[test]
fn timestamps() {
    let micros = 1_357_016_400_000_000;
    let plain = TimestampMicrosecondArray::from(vec![Some(micros), None, Some(i64::MAX), Some(i64::MIN)]);
    assert_eq!(text(plain.clone()), texts(["2013-01-01 05:00:00", "∅", "infinity", "-infinity"]));
    assert_eq!(binary(plain), ["00017531c5421400", "∅", "7fffffffffffffff", "8000000000000000"]);
    assert_eq!(text(TimestampNanosecondArray::from(vec![-1])), texts(["1969-12-31 23:59:59.999999"]));
    assert_eq!(text(TimestampSecondArray::from(vec![-62_135_596_801])), texts(["0001-12-31 23:59:59 BC"]));
    let zoned = TimestampMillisecondArray::from(vec![micros / 1000]).with_timezone("Asia/Tokyo");
    assert_eq!(text(zoned.clone()), texts(["2013-01-01 05:00:00+00"]));
    for (zone, shown) in [
        ("America/New_York", "2013-01-01 00:00:00-05"),
        ("Asia/Kolkata", "2013-01-01 10:30:00+05:30"),
        ("2", "2013-01-01 07:00:00+02"),
    ] {
        let options = EncodeOptions { time_zone: zone.parse().unwrap(), ..EncodeOptions::default() };
        assert_eq!(text_in(&options, zoned.clone()), texts([shown]));
    }
    let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX / 2]));
    let error = encode(field(&far), far, Format::Text, &EncodeOptions::default()).unwrap_err();
    assert_eq!(error.sqlstate(), "22008");
}

#[test]
fn intervals() {
    let value = IntervalMonthDayNanoType::make_value(14, 3, 14_706_500_000_000);
    let array = IntervalMonthDayNanoArray::from(vec![Some(value), None]);
    assert_eq!(text(array.clone()), texts(["1 year 2 mons 3 days 04:05:06.5", "∅"]));
    assert_eq!(binary(array), ["000000036c9361a0000000030000000e", "∅"]);
    assert_eq!(text(IntervalYearMonthArray::from(vec![-1])), texts(["-1 mons"]));
    let day = IntervalDayTimeType::make_value(1, -500);
    assert_eq!(text(IntervalDayTimeArray::from(vec![day])), texts(["1 day -00:00:00.5"]));
    assert_eq!(text(DurationMillisecondArray::from(vec![90_061_001])), texts(["1 day 01:01:01.001"]));
    assert_eq!(binary(DurationSecondArray::from(vec![1])), ["00000000000f42400000000000000000"]);
}

fn int_lists() -> ListArray {
    ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(3)]),
    ])
}

#[test]
fn arrays() {
    assert_eq!(text(int_lists()), texts(["{1,NULL}", "∅", "{}", "{3}"]));
    let header = |dimensions: u32, nulls: u32| format!("{dimensions:08x}{nulls:08x}00000017");
    let expected = [
        header(1, 1) + "0000000200000001" + "0000000400000001" + "ffffffff",
        "∅".to_owned(),
        header(0, 0),
        header(1, 0) + "0000000100000001" + "0000000400000003",
    ];
    assert_eq!(binary(int_lists()), expected);
    // A slice begins in the middle of the values.
    assert_eq!(text(int_lists().slice(2, 2)), texts(["{}", "{3}"]));
    assert_eq!(binary(int_lists().slice(3, 1)), expected[3..]);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([
        Some("a b"),
        Some(""),
        Some("null"),
        Some("q\"\\"),
        Some("{,}"),
        Some("plain"),
        None,
    ]);
    let words = words.finish();
    assert_eq!(text(words.clone()), texts([r#"{"a b","","null","q\"\\","{,}",plain,NULL}"#]));
    let large = arrow::compute::cast(
        &words,
        &DataType::LargeList(Field::new_list_field(DataType::Utf8, true).into()),
    );
    let large = large.unwrap().as_list::<i64>().clone();
    assert_eq!(text(large), text(words));
    let fixed =
        FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None], 2);
    assert_eq!(text(fixed), texts(["{1,2}", "∅"]));
}

/// Lists of the lists of [`int_lists`], cut at `ends`.
fn nested(ends: Vec<i32>) -> ListArray {
    let inner = int_lists();
    let field = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
    ListArray::new(field, OffsetBuffer::new(ScalarBuffer::from(ends)), Arc::new(inner), None)
}

#[test]
fn arrays_of_several_dimensions() {
    assert_eq!(text(nested(vec![0, 1, 1, 3, 4])), texts(["{{1,NULL}}", "{}", "{NULL,{}}", "{{3}}"]));
    assert_eq!(text(nested(vec![2, 3])), texts(["{}"]));
    let single = binary(nested(vec![0, 1]));
    let dimensions = "000000020000000100000017".to_owned() + "0000000100000001" + "0000000200000001";
    assert_eq!(single, [dimensions + "0000000400000001" + "ffffffff"]);
    let ragged: ArrayRef = Arc::new(nested(vec![2, 4]));
    let error = encode(field(&ragged), ragged, Format::Binary, &EncodeOptions::default()).unwrap_err();
    assert_eq!(error.sqlstate(), "0A000");
}

fn person() -> StructArray {
    let stamps: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0, 0]).with_timezone("UTC"));
    let entries: Vec<(Field, ArrayRef)> = vec![
        (Field::new("n\"", DataType::Int32, true), Arc::new(Int32Array::from(vec![Some(1), None]))),
        (Field::new("f", DataType::Float64, true), Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))),
        (Field::new("s", DataType::Utf8, true), Arc::new(StringArray::from(vec!["a\n\u{1}\\", "é"]))),
        (Field::new("t", stamps.data_type().clone(), true), stamps),
        (Field::new("b", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![true, false]))),
    ];
    entries.into_iter().map(|(field, array)| (Arc::new(field), array)).collect::<Vec<_>>().into()
}

#[test]
fn structs_are_json() {
    let first = r#"{"n\"":1,"f":"NaN","s":"a\n\u0001\\","t":"1970-01-01T00:00:00+00:00","b":true}"#;
    let second = r#"{"n\"":null,"f":0.5,"s":"é","t":"1970-01-01T00:00:00+00:00","b":false}"#;
    assert_eq!(text(person()), texts([first, second]));
    assert_eq!(text(person().slice(1, 1)), texts([second]));
    let persons = Arc::new(person());
    let element = Arc::new(Field::new_list_field(persons.data_type().clone(), true));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 1, 1, 2]));
    let list = ListArray::new(element, offsets, persons, Some(vec![true, false, true].into()));
    assert_eq!(text(list), vec![Some(format!("[{first}]")), None, Some(format!("[{second}]"))]);
}

#[test]
fn maps_are_json() {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    maps.keys().append_value("a");
    maps.values().append_value(1);
    maps.keys().append_value("b");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    maps.append(true).unwrap();
    assert_eq!(text(maps.finish()), texts([r#"{"a":1,"b":null}"#, "∅", "{}"]));
}

#[test]
fn unions_are_the_json_of_their_member() {
    let mut union = UnionBuilder::new_dense();
    union.append::<Int32Type>("n", 5).unwrap();
    union.append::<Float64Type>("x", 0.5).unwrap();
    assert_eq!(text(union.build().unwrap()), texts(["5", "0.5"]));
}

#[test]
fn rows_hold_their_columns_in_order() {
    let count = 1_000;
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("s", DataType::Utf8View, true),
        Field::new("d", DataType::Date32, false),
    ]));
    let names = (0..count).map(|n| (n % 3 > 0).then(|| "x".repeat(n % 50)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..count as i64)),
        Arc::new(names.collect::<StringViewArray>()),
        Arc::new(Date32Array::from_iter_values(0..count as i32)),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let formats = [Format::Text, Format::Text, Format::Binary];
    let mut encoder = RowEncoder::new(&schema, &formats, &EncodeOptions::default()).unwrap();
    let mut out = BytesMut::new();
    encoder.encode(&batch, 0..700, &mut out).unwrap();
    encoder.encode(&batch, 700..count, &mut out).unwrap();
    for (n, row) in rows(&out).into_iter().enumerate() {
        let name = (n % 3 > 0).then(|| "x".repeat(n % 50).into_bytes());
        let day = (n as i32 - 10_957).to_be_bytes().to_vec();
        assert_eq!(row, [Some(n.to_string().into_bytes()), name, Some(day)]);
    }
}

#[test]
fn a_batch_of_another_type_is_cast_to_the_announced_one() {
    let announced = Schema::new(vec![Field::new("n", DataType::Int32, true)]);
    let sent: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    let batch = RecordBatch::try_from_iter([("n", sent)]).unwrap();
    let mut encoder = RowEncoder::new(&announced, &[Format::Binary], &EncodeOptions::default()).unwrap();
    let mut out = BytesMut::new();
    encoder.encode(&batch, 0..1, &mut out).unwrap();
    assert_eq!(rows(&out), [[Some(vec![0, 0, 0, 5])]]);
}

#[test]
fn the_description_names_type_and_format() {
    let schema = Schema::new(vec![Field::new("price", DataType::Decimal128(15, 2), true)]);
    let message = row_description(&schema, &[Format::Binary]).unwrap();
    let mut expected = b"T\0\0\0\x1e\0\x01price\0".to_vec();
    expected.extend([0; 6]);
    expected.extend(1700_u32.to_be_bytes());
    expected.extend((-1_i16).to_be_bytes());
    expected.extend(983_046_i32.to_be_bytes());
    expected.extend([0, 1]);
    assert_eq!(message, expected);
    assert!(row_description(&schema, &[]).is_err());
}
