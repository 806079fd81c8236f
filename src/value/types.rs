//! Types: which PostgreSQL type an Arrow column is on the wire, and back.
//!
//! A [`PgType`] is what a RowDescription says of a column: OID, length and type modifier. This module
//! decides it from the Arrow type and from the field's metadata (`pg_type`, or an Arrow extension
//! name), spells types as `format_type` does, and names the Arrow type of a declared parameter.
//! How values look is decided in [`output`](super::output) and [`input`](super::input).

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};

/// The metadata key by which a field asks for a certain PostgreSQL type, such as `oid` or `name`.
pub const PG_TYPE_KEY: &str = "pg_type";

/// The byte in front of a binary `jsonb`.
pub(super) const JSONB_VERSION: u8 = 1;

const EXTENSION_KEY: &str = "ARROW:extension:name";

/// OIDs of the types that this crate speaks, as in `pg_type.dat`.
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT2VECTOR: u32 = 22;
    pub const INT4: u32 = 23;
    pub const REGPROC: u32 = 24;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const XID: u32 = 28;
    pub const CID: u32 = 29;
    pub const OIDVECTOR: u32 = 30;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const PG_NODE_TREE: u32 = 194;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const ACLITEM: u32 = 1033;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const REGCLASS: u32 = 2205;
    pub const REGTYPE: u32 = 2206;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// One row of the table of known types.
struct Known {
    oid: u32,
    array: u32,
    len: i16,
    name: &'static str,
    spelling: &'static str,
}

const fn known(oid: u32, array: u32, len: i16, name: &'static str, spelling: &'static str) -> Known {
    Known { oid, array, len, name, spelling }
}

const KNOWN: &[Known] = &[
    known(oid::BOOL, 1000, 1, "bool", "boolean"),
    known(oid::BYTEA, 1001, -1, "bytea", "bytea"),
    known(oid::CHAR, 1002, 1, "char", "\"char\""),
    known(oid::NAME, 1003, 64, "name", "name"),
    known(oid::INT8, 1016, 8, "int8", "bigint"),
    known(oid::INT2, 1005, 2, "int2", "smallint"),
    known(oid::INT2VECTOR, 1006, -1, "int2vector", "int2vector"),
    known(oid::INT4, 1007, 4, "int4", "integer"),
    known(oid::REGPROC, 1008, 4, "regproc", "regproc"),
    known(oid::TEXT, 1009, -1, "text", "text"),
    known(oid::OID, 1028, 4, "oid", "oid"),
    known(27, 1010, 6, "tid", "tid"),
    known(oid::XID, 1011, 4, "xid", "xid"),
    known(oid::CID, 1012, 4, "cid", "cid"),
    known(oid::OIDVECTOR, 1013, -1, "oidvector", "oidvector"),
    known(oid::JSON, 199, -1, "json", "json"),
    known(oid::XML, 143, -1, "xml", "xml"),
    known(oid::PG_NODE_TREE, 0, -1, "pg_node_tree", "pg_node_tree"),
    known(oid::FLOAT4, 1021, 4, "float4", "real"),
    known(oid::FLOAT8, 1022, 8, "float8", "double precision"),
    known(oid::UNKNOWN, 0, -2, "unknown", "unknown"),
    known(oid::ACLITEM, 1034, 12, "aclitem", "aclitem"),
    known(oid::BPCHAR, 1014, -1, "bpchar", "character"),
    known(oid::VARCHAR, 1015, -1, "varchar", "character varying"),
    known(oid::DATE, 1182, 4, "date", "date"),
    known(oid::TIME, 1183, 8, "time", "time without time zone"),
    known(oid::TIMESTAMP, 1115, 8, "timestamp", "timestamp without time zone"),
    known(oid::TIMESTAMPTZ, 1185, 8, "timestamptz", "timestamp with time zone"),
    known(oid::INTERVAL, 1187, 16, "interval", "interval"),
    known(oid::NUMERIC, 1231, -1, "numeric", "numeric"),
    known(2202, 2207, 4, "regprocedure", "regprocedure"),
    known(2203, 2208, 4, "regoper", "regoper"),
    known(2204, 2209, 4, "regoperator", "regoperator"),
    known(oid::REGCLASS, 2210, 4, "regclass", "regclass"),
    known(oid::REGTYPE, 2211, 4, "regtype", "regtype"),
    known(4089, 4090, 4, "regnamespace", "regnamespace"),
    known(4096, 4097, 4, "regrole", "regrole"),
    known(4191, 4192, 4, "regcollation", "regcollation"),
    known(oid::UUID, 2951, 16, "uuid", "uuid"),
    known(3220, 3221, 8, "pg_lsn", "pg_lsn"),
    known(3734, 3735, 4, "regconfig", "regconfig"),
    known(3769, 3770, 4, "regdictionary", "regdictionary"),
    known(oid::JSONB, 3807, -1, "jsonb", "jsonb"),
    known(2278, 0, 4, "void", "void"),
    known(2249, 2287, -1, "record", "record"),
    known(2277, 0, -1, "anyarray", "anyarray"),
    known(5069, 271, 8, "xid8", "xid8"),
];

/// Whether values travel as text or in PostgreSQL's binary form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

impl Format {
    /// Reads a format code of the protocol.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a code other than 0 and 1.
    pub fn from_code(code: i16) -> Result<Self> {
        match code {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            other => Err(Error::Protocol(format!("unsupported format code: {other}"))),
        }
    }

    /// The format code of the protocol.
    pub fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    /// Spreads the codes of a Bind message over `count` columns or parameters: none means text, one
    /// means the same for all.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there are several codes and not one for each.
    pub fn spread(codes: &[i16], count: usize) -> Result<Vec<Self>> {
        match codes {
            [] => Ok(vec![Self::Text; count]),
            [one] => Ok(vec![Self::from_code(*one)?; count]),
            _ if codes.len() == count => codes.iter().map(|code| Self::from_code(*code)).collect(),
            _ => Err(Error::Protocol(format!(
                "bind message has {} formats but there are {count} values",
                codes.len()
            ))),
        }
    }
}

/// What a RowDescription says of a column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgType {
    pub oid: u32,
    /// Bytes of a value as `pg_type.typlen` counts them, -1 when it varies.
    pub len: i16,
    /// The type modifier as `pg_attribute.atttypmod`, -1 for none.
    pub typmod: i32,
}

impl PgType {
    /// The type of `oid`, without a modifier.
    pub fn of_oid(oid: u32) -> Self {
        Self { oid, len: by_oid(oid).map_or(-1, |known| known.len), typmod: -1 }
    }
}

/// Decides the PostgreSQL type of a field, its metadata included.
///
/// Metadata counts only where the values can be sent as the type that it names; otherwise the Arrow
/// type decides alone.
pub fn pg_type(field: &Field) -> PgType {
    let asked = field.metadata().get(PG_TYPE_KEY).and_then(|name| by_name(name));
    let extension = || match field.metadata().get(EXTENSION_KEY).map(String::as_str) {
        Some("arrow.uuid") => Some(oid::UUID),
        Some("arrow.json") => Some(oid::JSON),
        _ => None,
    };
    match asked.or_else(extension) {
        Some(oid) if carries(field.data_type(), oid) => PgType::of_oid(oid),
        _ => pg_type_of(field.data_type()),
    }
}

/// Decides the PostgreSQL type of an Arrow type.
pub fn pg_type_of(data_type: &DataType) -> PgType {
    let oid = match data_type {
        DataType::Boolean => oid::BOOL,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => oid::INT2,
        DataType::UInt16 | DataType::Int32 => oid::INT4,
        DataType::UInt32 | DataType::Int64 => oid::INT8,
        DataType::UInt64 => return numeric(20, 0),
        DataType::Float16 | DataType::Float32 => oid::FLOAT4,
        DataType::Float64 => oid::FLOAT8,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return numeric(*precision, *scale),
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => oid::TEXT,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            oid::BYTEA
        }
        DataType::Date32 | DataType::Date64 => oid::DATE,
        DataType::Time32(_) | DataType::Time64(_) => oid::TIME,
        DataType::Timestamp(_, None) => oid::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => oid::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => oid::INTERVAL,
        DataType::Dictionary(_, value) => return pg_type_of(value),
        DataType::RunEndEncoded(_, values) => return pg_type(values),
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => oid::JSON,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => list_oid(element),
    };
    PgType::of_oid(oid)
}

/// A list is an array of its scalars, however deep they lie; a list of structs is json.
fn list_oid(element: &FieldRef) -> u32 {
    if is_composite(element.data_type()) {
        return oid::JSON;
    }
    let element = pg_type(element);
    match array_oid(element.oid) {
        Some(array) => array,
        // A list in a list: arrays of any depth have one type.
        None if element_oid(element.oid).is_some() => element.oid,
        None => oid::JSON,
    }
}

/// Whether values are structs, maps or unions, or lists of those.
pub(super) fn is_composite(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => true,
        DataType::Dictionary(_, value) => is_composite(value),
        DataType::RunEndEncoded(_, values) => is_composite(values.data_type()),
        other => list_element(other).is_some_and(|element| is_composite(element.data_type())),
    }
}

/// The element of any of Arrow's list types.
pub(super) fn list_element(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => Some(element),
        _ => None,
    }
}

fn numeric(precision: u8, scale: i8) -> PgType {
    let typmod = ((i32::from(precision) << 16) | (i32::from(scale) & 0x7ff)) + 4;
    PgType { oid: oid::NUMERIC, len: -1, typmod }
}

/// Whether values of `data_type` can be sent as `oid`.
fn carries(data_type: &DataType, oid: u32) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => carries(value, oid),
        DataType::Null => true,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => is_text(oid) || is_reg(oid),
        DataType::FixedSizeBinary(16) => oid == oid::UUID,
        other if other.is_integer() => is_integer(oid),
        other => match (list_element(other), element_oid(oid)) {
            (Some(element), Some(element_oid)) => carries(element.data_type(), element_oid),
            _ => false,
        },
    }
}

/// Whether a string is the value of `oid` as it stands.
pub(crate) fn is_text(oid: u32) -> bool {
    matches!(
        oid,
        oid::TEXT
            | oid::VARCHAR
            | oid::BPCHAR
            | oid::NAME
            | oid::CHAR
            | oid::JSON
            | oid::JSONB
            | oid::XML
            | oid::PG_NODE_TREE
            | oid::ACLITEM
            | oid::UNKNOWN
    )
}

/// Whether `oid` is an alias of `oid` that prints a name.
pub(crate) fn is_reg(oid: u32) -> bool {
    matches!(oid, oid::REGPROC | 2202..=2206 | 4089 | 4096 | 4191 | 3734 | 3769)
}

/// Whether `oid` is one of the four-byte unsigned types.
pub(super) fn is_unsigned(oid: u32) -> bool {
    matches!(oid, oid::OID | oid::XID | oid::CID) || is_reg(oid)
}

fn is_integer(oid: u32) -> bool {
    matches!(oid, oid::INT2 | oid::INT4 | oid::INT8 | 5069) || is_unsigned(oid)
}

/// The array type over `oid`.
pub fn array_oid(oid: u32) -> Option<u32> {
    by_oid(oid).map(|known| known.array).filter(|array| *array != 0)
}

/// The element type of an array or vector type.
pub fn element_oid(oid: u32) -> Option<u32> {
    match oid {
        oid::INT2VECTOR => Some(oid::INT2),
        oid::OIDVECTOR => Some(oid::OID),
        0 => None,
        array => KNOWN.iter().find(|known| known.array == array).map(|known| known.oid),
    }
}

fn by_oid(oid: u32) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.oid == oid)
}

/// Finds a type by its name in `pg_type`; arrays are `_name` or `name[]`.
pub fn by_name(name: &str) -> Option<u32> {
    if let Some(element) = name.strip_prefix('_').or_else(|| name.strip_suffix("[]")) {
        return array_oid(by_name(element)?);
    }
    KNOWN.iter().find(|known| known.name == name).map(|known| known.oid)
}

/// Spells a type as `format_type(oid, NULL)` does: `integer`, `timestamp with time zone[]`, `???`.
pub fn type_name(oid: u32) -> String {
    if let Some(known) = by_oid(oid) {
        return known.spelling.to_owned();
    }
    match element_oid(oid).and_then(by_oid) {
        Some(element) => format!("{}[]", element.spelling),
        None => "???".to_owned(),
    }
}

/// Spells a type with its modifier as `format_type(oid, typmod)` does: `numeric(15,2)`.
pub fn format_type(oid: u32, typmod: i32) -> String {
    if by_oid(oid).is_none()
        && let Some(element) = element_oid(oid)
    {
        return format!("{}[]", format_type(element, typmod));
    }
    let name = type_name(oid);
    match oid {
        oid::NUMERIC if typmod >= 4 => {
            let (precision, scale) = numeric_parts(typmod);
            format!("{name}({precision},{scale})")
        }
        oid::VARCHAR | oid::BPCHAR if typmod >= 4 => format!("{name}({})", typmod - 4),
        oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ if typmod >= 0 => match name.split_once(' ') {
            Some((first, rest)) => format!("{first}({typmod}) {rest}"),
            None => name,
        },
        _ => name,
    }
}

/// Precision and scale in a numeric's type modifier.
fn numeric_parts(typmod: i32) -> (i32, i32) {
    let packed = typmod - 4;
    ((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024)
}

/// Names the Arrow type for a parameter that a client declares as `oid`.
///
/// `None` for the unspecified (0), for `unknown`, and for types that no Arrow value can stand for: the
/// statement then decides. A numeric without modifier is `Decimal128(38, 10)`.
pub fn arrow_type(oid: u32, typmod: i32) -> Option<DataType> {
    let data_type = match oid {
        oid::BOOL => DataType::Boolean,
        oid::INT2 => DataType::Int16,
        oid::INT4 => DataType::Int32,
        oid::INT8 | 5069 => DataType::Int64,
        oid::FLOAT4 => DataType::Float32,
        oid::FLOAT8 => DataType::Float64,
        oid::NUMERIC => decimal_type(typmod)?,
        oid::BYTEA => DataType::Binary,
        oid::DATE => DataType::Date32,
        oid::TIME => DataType::Time64(TimeUnit::Microsecond),
        oid::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        oid::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        oid::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        oid::UUID => DataType::FixedSizeBinary(16),
        0 | oid::UNKNOWN => return None,
        oid if is_text(oid) => DataType::Utf8,
        oid if is_unsigned(oid) => DataType::UInt32,
        array => {
            let element = arrow_type(element_oid(array)?, typmod)?;
            DataType::List(Field::new_list_field(element, true).into())
        }
    };
    Some(data_type)
}

fn decimal_type(typmod: i32) -> Option<DataType> {
    if typmod < 4 {
        return Some(DataType::Decimal128(38, 10));
    }
    let (precision, scale) = numeric_parts(typmod);
    let scale = i8::try_from(scale).ok()?;
    match u8::try_from(precision).ok()? {
        precision @ 1..=38 => Some(DataType::Decimal128(precision, scale)),
        precision @ 39..=76 => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn list(element: DataType) -> DataType {
        DataType::List(Field::new_list_field(element, true).into())
    }

    fn marked(data_type: DataType, name: &str) -> u32 {
        let field = Field::new("c", data_type, true);
        pg_type(&field.with_metadata([(PG_TYPE_KEY.to_owned(), name.to_owned())].into())).oid
    }

    #[test]
    fn arrow_types_have_postgres_types() {
        assert_eq!(pg_type_of(&DataType::Int32), PgType { oid: 23, len: 4, typmod: -1 });
        // PostgreSQL: SELECT atttypmod of a numeric(15,2) column is 983046.
        assert_eq!(pg_type_of(&DataType::Decimal128(15, 2)), PgType { oid: 1700, len: -1, typmod: 983_046 });
        assert_eq!(pg_type_of(&DataType::UInt64).oid, 1700);
        assert_eq!(pg_type_of(&list(DataType::Int32)).oid, 1007);
        assert_eq!(pg_type_of(&list(list(DataType::Int32))).oid, 1007);
        let fields: arrow::datatypes::Fields = vec![Field::new("a", DataType::Int32, true)].into();
        assert_eq!(pg_type_of(&DataType::Struct(fields.clone())).oid, 114);
        assert_eq!(pg_type_of(&list(DataType::Struct(fields))).oid, 114);
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        assert_eq!(pg_type_of(&list(dictionary)).oid, 1009);
        assert_eq!(pg_type_of(&DataType::Timestamp(TimeUnit::Second, Some(Arc::from("UTC")))).oid, 1184);
    }

    #[test]
    fn metadata_names_a_type_where_the_values_fit() {
        assert_eq!(marked(DataType::Int64, "oid"), 26);
        assert_eq!(marked(DataType::Utf8View, "name"), 19);
        assert_eq!(marked(DataType::Utf8, "char"), 18);
        assert_eq!(marked(DataType::Int32, "regclass"), 2205);
        assert_eq!(marked(list(DataType::Int16), "int2vector"), 22);
        assert_eq!(marked(list(DataType::Int64), "_oid"), 1028);
        assert_eq!(marked(list(DataType::Utf8), "aclitem[]"), 1034);
        assert_eq!(marked(DataType::FixedSizeBinary(16), "uuid"), 2950);
        assert_eq!(marked(DataType::Float64, "oid"), 701);
        assert_eq!(marked(DataType::Utf8, "no such type"), 25);
    }

    #[test]
    fn types_are_spelled_as_format_type_does() {
        assert_eq!(format_type(1700, 983_046), "numeric(15,2)");
        assert_eq!(format_type(1700, (5 << 16) + 0x7fd + 4), "numeric(5,-3)");
        assert_eq!(format_type(1185, 3), "timestamp(3) with time zone[]");
        assert_eq!(format_type(1043, 14), "character varying(10)");
        assert_eq!(type_name(1007), "integer[]");
        assert_eq!(type_name(18), "\"char\"");
        assert_eq!(type_name(99_999), "???");
    }

    #[test]
    fn declared_parameters_have_arrow_types() {
        assert_eq!(arrow_type(1700, 983_046), Some(DataType::Decimal128(15, 2)));
        assert_eq!(arrow_type(1016, -1), Some(list(DataType::Int64)));
        assert_eq!(arrow_type(0, -1), None);
        for known in KNOWN.iter().filter(|known| known.array != 0) {
            assert_eq!(element_oid(known.array), Some(known.oid), "{}", known.name);
        }
    }
}
