//! Casts: PostgreSQL's type names, and the `reg…` types.
//!
//! A value of type `regclass` is an oid that prints as a name. DataFusion has no such type, so the
//! cast becomes a function: `regclassin` gives the oid, `regclassout` the name.

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CharacterLength, DataType, ExactNumberInfo, Expr, Function, ObjectName,
    Value,
};

use super::build::{call, cast, inner, number, parts, take};
use crate::function::NUMERIC;
use crate::function::TYPE_NAMES;
use crate::function::cast::UUID_IN;

/// The functions of each `reg…` type: from what is cast to the value, and from the value to its text.
const REFERENCES: [(&str, &str, &str); 9] = [
    ("regclass", "regclassin", "regclassout"),
    ("regtype", "regtypein", "regtypeout"),
    ("regnamespace", "regnamespacein", "regnamespaceout"),
    ("regrole", "regrolein", "regroleout"),
    ("regproc", "regprocin", "regprocout"),
    ("regprocedure", "regprocedurein", "regprocedureout"),
    ("regoper", "regoperin", "regoperout"),
    ("regoperator", "regoperatorin", "regoperatorout"),
    ("regcollation", "regcollationin", "regcollationout"),
];

/// Rewrites a cast whose inside is rewritten already.
pub(super) fn rewrite(expr: &mut Expr) {
    if let Expr::TypedString(typed) = expr
        && let Some((_, input, _)) = reference(&typed.data_type)
    {
        *expr = call(input, vec![Expr::Value(typed.value.clone())]);
        return;
    }
    if let Expr::TypedString(typed) = expr {
        // `timestamp '…'` is the cast of a text.
        *expr = cast(Expr::Value(typed.value.clone()), typed.data_type.clone());
    }
    let Expr::Cast { expr: value, data_type, .. } = expr else {
        return;
    };
    if let Some(day) = relative_day(value, data_type) {
        **value = day;
    }
    if is_regtype_array(data_type) {
        *expr = call(TYPE_NAMES, vec![take(value)]);
    } else if is_uuid(data_type) {
        *expr = call(UUID_IN, vec![take(value)]);
    } else if let Some((_, input, _)) = reference(data_type) {
        *expr = call(input, vec![take(value)]);
    } else if let Some(output) = output_of(value).filter(|_| is_text(data_type)) {
        *expr = call(output, vec![take(value)]);
    } else if let Some(name) = json_name(data_type) {
        *expr = call(name, vec![cast(take(value), DataType::Text)]);
    } else if is_numeric(data_type) {
        match digits_of(value) {
            Some((digits, decimals)) => *data_type = numeric_of(digits, decimals),
            None => *expr = call(NUMERIC, vec![take(value)]),
        }
    } else if let Some(elements) = array_literal(value, data_type) {
        **value = elements;
        *data_type = plain(data_type);
    } else if let DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. })) = data_type {
        // An explicit cast cuts the text off; the planner would let it pass whole.
        let length = number(*length);
        *expr = call("left", vec![cast(take(value), DataType::Text), length]);
    } else {
        *data_type = plain(data_type);
    }
}

/// The day or moment that a word means, where it is cast to a date or timestamp.
fn relative_day(value: &Expr, data_type: &DataType) -> Option<Expr> {
    let data_type = plain(data_type);
    if !matches!(data_type, DataType::Date | DataType::Timestamp(..)) {
        return None;
    }
    let Expr::Value(value) = inner(value) else { return None };
    let Value::SingleQuotedString(word) = &value.value else { return None };
    let today = || call("current_date", vec![]);
    let moved = |op: BinaryOperator| {
        let (left, right) = (Box::new(today()), Box::new(cast(number(1), DataType::Integer(None))));
        Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }))
    };
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "now" => call("now", vec![]),
        "today" => today(),
        "yesterday" => moved(BinaryOperator::Minus),
        "tomorrow" => moved(BinaryOperator::Plus),
        _ => return None,
    })
}

/// The function that reads a json of this type.
fn json_name(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::JSON => Some("json"),
        DataType::JSONB => Some("jsonb"),
        other => ["json", "jsonb"].into_iter().find(|name| is_named(other, name)),
    }
}

/// Whether a type is a numeric without precision.
fn is_numeric(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Numeric(ExactNumberInfo::None)
            | DataType::Decimal(ExactNumberInfo::None)
            | DataType::Dec(ExactNumberInfo::None)
    ) || is_named(data_type, "numeric")
}

/// How many digits a number has that is written as a text, and how many of them are decimals.
fn digits_of(value: &Expr) -> Option<(u64, i64)> {
    let Expr::Value(value) = inner(value) else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    let text = text.trim().trim_start_matches(['+', '-']);
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let plain =
        !text.is_empty() && [whole, decimals].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    (plain && whole.len() + decimals.len() <= 38)
        .then_some(((whole.len() + decimals.len()).max(1) as u64, decimals.len() as i64))
}

fn numeric_of(digits: u64, decimals: i64) -> DataType {
    DataType::Numeric(ExactNumberInfo::PrecisionAndScale(digits, decimals))
}

/// `regtype[]`, whose values are the names of types.
fn is_regtype_array(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) if is_named(item, "regtype"))
}

fn is_uuid(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Uuid) || is_named(data_type, "uuid")
}

fn reference(data_type: &DataType) -> Option<(&'static str, &'static str, &'static str)> {
    REFERENCES.into_iter().find(|(name, ..)| is_named(data_type, name))
}

/// Whether a type is written as `name` or `pg_catalog.name`.
fn is_named(data_type: &DataType, name: &str) -> bool {
    custom_name(data_type).is_some_and(|found| found == name)
}

fn custom_name(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => bare(name),
        _ => None,
    }
}

fn bare(name: &ObjectName) -> Option<String> {
    let mut parts = parts(name);
    match parts.len() {
        1 => parts.pop(),
        2 if parts[0] == "pg_catalog" => parts.pop(),
        _ => None,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(None))
        || ["text", "varchar", "name"].iter().any(|name| is_named(data_type, name))
}

/// The function that prints what `value` reads.
fn output_of(value: &Expr) -> Option<&'static str> {
    let Expr::Function(Function { name, .. }) = inner(value) else {
        return None;
    };
    let name = parts(name).pop()?;
    REFERENCES.into_iter().find(|(_, input, _)| *input == name).map(|(.., output)| output)
}

/// The type of a cast as the planner knows it.
pub fn planned(data_type: &DataType) -> DataType {
    match reference(data_type) {
        Some(_) => DataType::Text,
        None => plain(data_type),
    }
}

/// The type as the planner knows it.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => array_of(plain(item)),
        DataType::Float(ExactNumberInfo::None) => DataType::DoublePrecision,
        DataType::Float(ExactNumberInfo::Precision(bits)) if *bits > 24 => DataType::DoublePrecision,
        DataType::JSON | DataType::JSONB => DataType::Text,
        // PostgreSQL counts microseconds.
        DataType::Timestamp(None, zone) => DataType::Timestamp(Some(6), *zone),
        _ => match custom_name(data_type).and_then(|name| built_in(&name)) {
            Some(known) => known,
            None => data_type.clone(),
        },
    }
}

fn custom(name: &str) -> DataType {
    let ident = datafusion::sql::sqlparser::ast::Ident::new(name);
    DataType::Custom(ObjectName::from(vec![ident]), vec![])
}

fn array_of(item: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None))
}

fn built_in(name: &str) -> Option<DataType> {
    use datafusion::sql::sqlparser::ast::TimezoneInfo;
    Some(match name {
        "text" | "bpchar" | "varchar" | "json" | "jsonb" | "xml" | "aclitem" | "inet" | "pg_node_tree" => {
            DataType::Text
        }
        "bool" | "boolean" => DataType::Boolean,
        "int2" | "smallint" => DataType::SmallInt(None),
        "int4" | "int" | "integer" => DataType::Integer(None),
        "int8" | "bigint" => DataType::BigInt(None),
        // The planner is told of these: their values say what they are.
        "oid" | "xid" | "cid" | "name" | "char" => custom(name),
        "float4" | "real" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        "numeric" | "decimal" => DataType::Numeric(ExactNumberInfo::None),
        "bytea" => DataType::Bytea,
        "date" => DataType::Date,
        "time" => DataType::Time(None, TimezoneInfo::None),
        "timestamp" => DataType::Timestamp(Some(6), TimezoneInfo::None),
        "timestamptz" => DataType::Timestamp(Some(6), TimezoneInfo::Tz),
        "interval" => DataType::Interval { fields: None, precision: None },
        "int2vector" => array_of(DataType::SmallInt(None)),
        "oidvector" => array_of(custom("oid")),
        "_text" | "_name" | "_varchar" => array_of(DataType::Text),
        "_int2" => array_of(DataType::SmallInt(None)),
        "_int4" => array_of(DataType::Integer(None)),
        "_int8" => array_of(DataType::BigInt(None)),
        "_oid" => array_of(custom("oid")),
        _ => return None,
    })
}

/// `'{a,b}'::text[]` as `ARRAY['a', 'b']`: a cast of text would make one element of it.
fn array_literal(value: &Expr, data_type: &DataType) -> Option<Expr> {
    if !matches!(plain(data_type), DataType::Array(_)) {
        return None;
    }
    let Expr::Value(value) = inner(value) else {
        return None;
    };
    let text = match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => text,
        _ => return None,
    };
    let element = |one: Option<String>| Expr::value(one.map_or(Value::Null, Value::SingleQuotedString));
    let elem = array_elements(text)?.into_iter().map(element).collect();
    Some(Expr::Array(datafusion::sql::sqlparser::ast::Array { elem, named: true }))
}

/// The elements of an array's text; nothing for one that is nested or malformed.
pub(super) fn array_elements(text: &str) -> Option<Vec<Option<String>>> {
    let body = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if body.trim().is_empty() {
        return Some(vec![]);
    }
    let (mut elements, mut element, mut quoted, mut was_quoted) = (vec![], String::new(), false, false);
    let finish = |element: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(element);
        if std::mem::take(was_quoted) {
            return Some(text);
        }
        let text = text.trim();
        (!text.eq_ignore_ascii_case("null")).then(|| text.to_owned())
    };
    let mut characters = body.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => element.push(characters.next()?),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => elements.push(finish(&mut element, &mut was_quoted)),
            '{' | '}' if !quoted => return None,
            other => element.push(other),
        }
    }
    elements.push(finish(&mut element, &mut was_quoted));
    (!quoted).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_read_as_postgres_reads_it() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(array_elements("{}"), Some(vec![]));
        assert_eq!(
            array_elements("{a, NULL,\"NULL\",\"b,\\\"c\"}"),
            Some(vec![some("a"), None, some("NULL"), some("b,\"c"),])
        );
        assert_eq!(array_elements("{{1},{2}}"), None);
        assert_eq!(array_elements("[1,2]"), None);
    }
}
