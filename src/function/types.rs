//! PostgreSQL's types: their oids, their names, and which of them an Arrow type is.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::datatypes::{DataType, Field};

/// Key of a field's metadata that names the PostgreSQL type where Arrow has none for it.
pub const PG_TYPE: &str = "pg_type";

/// The oid of `text`, which every type without a counterpart is shown as.
pub const TEXT: i64 = 25;
const NUMERIC: i64 = 1700;
const UUID: i64 = 2950;

/// A built-in type, as `pg_type` describes it.
#[derive(Debug)]
pub struct PgType {
    pub oid: i64,
    pub name: &'static str,
    /// Bytes of a value; -1 if they vary.
    pub length: i64,
    pub by_value: bool,
    /// `pg_type.typtype`: `b` base, `p` pseudo.
    pub kind: &'static str,
    pub category: &'static str,
    pub preferred: bool,
    /// The oid of the array over this type; 0 if there is none.
    pub array: i64,
    pub input: &'static str,
    pub output: &'static str,
    pub align: &'static str,
    pub storage: &'static str,
    pub collation: i64,
    pub element: i64,
    /// The name that SQL uses: `timestamp with time zone`.
    pub display: &'static str,
}

/// The built-in types, by oid.
pub fn all() -> &'static [PgType] {
    &TYPES
}

/// Finds a type by oid; an array's oid gives none.
pub fn by_oid(oid: i64) -> Option<&'static PgType> {
    TYPES.iter().find(|one| one.oid == oid)
}

/// Finds the oid of a type by one of its names: `int4`, `integer`, `_text`, `text[]`, `pg_catalog.oid`.
pub fn oid_of(name: &str) -> Option<i64> {
    let lower = name.trim().to_ascii_lowercase();
    let bare = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    let (bare, array) = match bare.strip_suffix("[]").or_else(|| bare.strip_prefix('_')) {
        Some(element) => (element, true),
        None => (bare, false),
    };
    let bare = bare.split_once('(').map_or(bare, |(head, _)| head.trim_end());
    let oid = *BY_NAME.get(bare)?;
    if array { by_oid(oid).map(|one| one.array).filter(|&oid| oid != 0) } else { Some(oid) }
}

/// The type of a column, as oid and `atttypmod`.
pub fn of_field(field: &Field) -> (i64, i64) {
    if let Some(oid) = field.metadata().get(PG_TYPE).and_then(|name| oid_of(name)) {
        return (oid, -1);
    }
    if field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid") {
        return (UUID, -1);
    }
    of_arrow(field.data_type())
}

/// The type as which values of an Arrow type travel, as oid and `atttypmod`.
pub fn of_arrow(data_type: &DataType) -> (i64, i64) {
    let name = match data_type {
        DataType::Boolean => "bool",
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "int2",
        DataType::UInt16 | DataType::Int32 => "int4",
        DataType::UInt32 | DataType::Int64 => "int8",
        DataType::UInt64 => "numeric",
        DataType::Float16 | DataType::Float32 => "float4",
        DataType::Float64 => "float8",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea"
        }
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => return numeric(*p, *s),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => return numeric(*p, *s),
        DataType::Dictionary(_, value) => return of_arrow(value),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => return array_of(item),
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => "json",
        _ => "text",
    };
    (BY_NAME[name], -1)
}

fn numeric(precision: u8, scale: i8) -> (i64, i64) {
    (NUMERIC, (i64::from(precision) << 16) + (i64::from(scale) & 0x7ff) + 4)
}

/// An array of nested values is shown as json, as the values themselves are.
fn array_of(item: &Field) -> (i64, i64) {
    let (element, _) = of_field(item);
    match by_oid(element) {
        Some(one) if one.array != 0 && one.name != "json" => (one.array, -1),
        None => (element, -1),
        _ => (BY_NAME["json"], -1),
    }
}

/// The name that SQL uses for a type, with its modifier: `numeric(10,2)`, `text[]`.
///
/// `-` for oid 0, `???` for an oid that is no type, as PostgreSQL answers.
pub fn format_type(oid: i64, modifier: Option<i64>) -> String {
    if oid == 0 {
        return "-".to_owned();
    }
    if let Some(one) = by_oid(oid) {
        return match modifier {
            Some(modifier) if modifier >= 0 => with_modifier(one, modifier),
            _ => one.display.to_owned(),
        };
    }
    match TYPES.iter().find(|one| one.array == oid) {
        Some(element) => format!("{}[]", format_type(element.oid, modifier)),
        None => "???".to_owned(),
    }
}

fn with_modifier(one: &PgType, modifier: i64) -> String {
    match one.name {
        "numeric" if modifier >= 4 => {
            let packed = modifier - 4;
            format!("numeric({},{})", packed >> 16, ((packed & 0x7ff) ^ 1024) - 1024)
        }
        "varchar" | "bpchar" if modifier >= 4 => format!("{}({})", one.display, modifier - 4),
        "timestamp" | "timestamptz" | "time" | "timetz" => match one.display.split_once(' ') {
            Some((head, tail)) => format!("{head}({modifier}) {tail}"),
            None => format!("{}({modifier})", one.display),
        },
        "bit" | "varbit" => format!("{}({modifier})", one.display),
        _ => one.display.to_owned(),
    }
}

static TYPES: LazyLock<Vec<PgType>> = LazyLock::new(|| {
    include_str!("pg_type.txt").lines().filter(|line| !line.starts_with('#')).map(parsed).collect()
});

static BY_NAME: LazyLock<HashMap<&'static str, i64>> = LazyLock::new(|| {
    let extra = [("int", 23), ("decimal", 1700), ("float", 701), ("string", 25), ("char", 18)];
    let displayed = TYPES.iter().map(|one| (one.display, one.oid));
    let named = TYPES.iter().map(|one| (one.name, one.oid));
    extra.into_iter().chain(displayed).chain(named).collect()
});

/// One line of the table that is compiled in; every column is there, as the tests below see to.
fn parsed(line: &'static str) -> PgType {
    let words: Vec<&str> = line.splitn(15, ' ').collect();
    let number = |index: usize| words[index].parse::<i64>().expect("a number in pg_type.txt");
    PgType {
        oid: number(0),
        name: words[1],
        length: number(2),
        by_value: words[3] == "t",
        kind: words[4],
        category: words[5],
        preferred: words[6] == "t",
        array: number(7),
        input: words[8],
        output: words[9],
        align: words[10],
        storage: words[11],
        collation: number(12),
        element: number(13),
        display: words[14],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn names_are_those_of_postgres() {
        assert_eq!(format_type(1184, None), "timestamp with time zone");
        assert_eq!(format_type(1184, Some(3)), "timestamp(3) with time zone");
        assert_eq!(format_type(1700, Some(655_366)), "numeric(10,2)");
        assert_eq!(format_type(1009, None), "text[]");
        assert_eq!(format_type(18, None), "\"char\"");
        assert_eq!(format_type(0, None), "-");
        assert_eq!(format_type(999_999, None), "???");
    }

    #[test]
    fn a_name_finds_its_oid() {
        for (name, oid) in [
            ("integer", 23),
            ("pg_catalog.int4", 23),
            ("text[]", 1009),
            ("_int8", 1016),
            ("numeric(3,1)", 1700),
        ] {
            assert_eq!(oid_of(name), Some(oid), "{name}");
        }
        assert_eq!(oid_of("hstore"), None);
    }

    #[test]
    fn an_arrow_type_has_a_postgres_type() {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        assert_eq!(of_arrow(&DataType::Decimal128(10, 2)), (1700, 655_366));
        assert_eq!(of_arrow(&DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))).0, 1184);
        assert_eq!(of_arrow(&list(DataType::Utf8)).0, 1009);
        assert_eq!(of_arrow(&list(list(DataType::Int32))).0, 1007);
        assert_eq!(
            of_arrow(&list(DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into()))).0,
            114
        );
        let oid = Field::new("o", DataType::Int64, false)
            .with_metadata([(PG_TYPE.to_owned(), "oid".to_owned())].into());
        assert_eq!(of_field(&oid), (26, -1));
    }
}
