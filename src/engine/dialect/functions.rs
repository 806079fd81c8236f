//! Functions: those that DataFusion has under another name or with another type, and those that give rows.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, DateTimeField, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, ObjectName, TimezoneInfo, UnaryOperator, Value,
};

use super::build::{call, cast, folded, number, parts, take};
use super::expressions::integer;
use crate::function::{TIMEZONE, json, pattern};

/// PostgreSQL's names and DataFusion's.
const RENAMED: [(&str, &str); 5] = [
    ("variance", "var_samp"),
    ("every", "bool_and"),
    ("array_remove", "array_remove_all"),
    ("regexp_split_to_table", "regexp_split_to_array"),
    ("string_to_table", "string_to_array"),
];

/// Functions that give an `integer`, where DataFusion's gives another.
const INTEGERS: [&str; 5] = ["array_length", "cardinality", "array_ndims", "array_position", "regexp_count"];

/// Functions whose type is that of their arguments, which are integers if they are written as such.
const POLYMORPHIC: [&str; 14] = [
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "sum",
    "min",
    "max",
    "avg",
    "lag",
    "lead",
    "array_append",
    "array_prepend",
    "array_fill",
    "array_agg",
];

/// The parts of an interval, by their names and in their order.
const INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Rewrites a call whose arguments are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::Function(function) => {
            if let Some(rewritten) = rewritten_call(function) {
                *expr = rewritten;
            }
        }
        Expr::Extract { field, expr: moment, .. } => {
            if let Some(extracted) = extracted(field, take(moment)) {
                *expr = extracted;
            }
        }
        // A sign binds closer than a power.
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: value } if is_power(value) => {
            let mut power = take(value);
            negate_base(&mut power);
            *expr = power;
        }
        Expr::UnaryOp { op, expr: value } => {
            let value = match op {
                UnaryOperator::PGSquareRoot => call("sqrt", vec![take(value)]),
                UnaryOperator::PGCubeRoot => call("cbrt", vec![take(value)]),
                UnaryOperator::PGAbs => call("abs", vec![take(value)]),
                UnaryOperator::BitwiseNot => {
                    let all = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number(1)) };
                    nested(take(value), BinaryOperator::PGBitwiseXor, all)
                }
                _ => return,
            };
            *expr = value;
        }
        Expr::Substring { expr: text, substring_from: Some(from), substring_for: None, .. }
            if is_quoted(from) =>
        {
            *expr = call(pattern::SUBSTRING, vec![take(text), take(from)]);
        }
        Expr::Value(value) => {
            if let Value::UnicodeStringLiteral(text) = &value.value {
                *expr = Expr::value(Value::SingleQuotedString(text.clone()));
            }
        }
        Expr::Array(array) => array.elem.iter_mut().for_each(integer),
        _ => {}
    }
}

/// What a call becomes; none where it stays one, perhaps with another name or arguments.
fn rewritten_call(function: &mut Function) -> Option<Expr> {
    let path = parts(&function.name);
    let [name] = path.as_slice() else { return None };
    if let Some((_, known)) = RENAMED.iter().find(|(own, _)| own == name) {
        function.name = ObjectName::from(vec![Ident::new(*known)]);
    }
    let typed = |function: &Function, data_type| Some(cast(Expr::Function(function.clone()), data_type));
    match name.as_str() {
        name if INTEGERS.contains(&name) => return typed(function, DataType::Integer(None)),
        "date_part" => return typed(function, DataType::DoublePrecision),
        "now" | "current_timestamp" | "transaction_timestamp" | "statement_timestamp" => return Some(now()),
        "localtimestamp" => return Some(cast(now(), DataType::Timestamp(Some(6), TimezoneInfo::None))),
        "localtime" => return Some(cast(now(), DataType::Time(None, TimezoneInfo::None))),
        "date_trunc" => return truncated_in_zone(function),
        "json_agg" | "jsonb_agg" => return Some(collected(function, name == "jsonb_agg")),
        "json_object_agg" | "jsonb_object_agg" => {
            return collected_object(function, name == "jsonb_object_agg");
        }
        name if POLYMORPHIC.contains(&name) => arguments(function).for_each(integer),
        "make_interval" => name_parts(function),
        "make_timestamptz" => in_session_zone(function),
        "substring" | "substr" => by_pattern(function),
        _ => {}
    }
    None
}

/// The time at which the transaction began, in microseconds.
fn now() -> Expr {
    cast(call("now", vec![]), DataType::Timestamp(Some(6), TimezoneInfo::Tz))
}

fn is_power(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp, .. })
}

/// Puts a sign before the base of a chain of powers.
fn negate_base(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } => negate_base(left),
        base => {
            let value = Box::new(take(base));
            *base = Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: value }));
        }
    }
}

pub(super) fn is_quoted(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_)))
}

/// `substring(text, pattern)`.
fn by_pattern(function: &mut Function) {
    let is_pattern = {
        let mut all = arguments(function);
        all.next().is_some() && all.next().is_some_and(|second| is_quoted(second)) && all.next().is_none()
    };
    if is_pattern {
        function.name = ObjectName::from(vec![Ident::new(pattern::SUBSTRING)]);
    }
}

/// `make_timestamptz` without a zone takes the session's.
fn in_session_zone(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 6
    {
        let zone = Expr::value(Value::SingleQuotedString("timezone".to_owned()));
        let zone = call("current_setting", vec![zone]);
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(zone)));
    }
}

/// `date_trunc(field, instant, zone)`: cut off on the clocks of that zone.
fn truncated_in_zone(function: &mut Function) -> Option<Expr> {
    let all: Vec<Expr> = arguments(function).map(|one| one.clone()).collect();
    let [field, instant, zone] = <[Expr; 3]>::try_from(all).ok()?;
    let local = call(TIMEZONE, vec![zone.clone(), instant]);
    Some(call(TIMEZONE, vec![zone, call("date_trunc", vec![field, local])]))
}

fn arguments(function: &mut Function) -> impl Iterator<Item = &mut Expr> {
    let args = match &mut function.args {
        FunctionArguments::List(list) => list.args.as_mut_slice(),
        _ => &mut [],
    };
    args.iter_mut().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    })
}

fn nested(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

fn numeric(precision: u64, scale: i64) -> DataType {
    DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale))
}

/// `extract(field FROM moment)` as the numeric that it is; none for a field that the planner knows itself.
fn extracted(field: &DateTimeField, moment: Expr) -> Option<Expr> {
    let part = |name: &str, moment: Expr| {
        call("date_part", vec![Expr::value(Value::SingleQuotedString(name.to_owned())), moment])
    };
    let micros = |moment: Expr| cast(part("microsecond", moment), numeric(18, 0));
    let shifted = |digits: i64, by: u64, moment: Expr| {
        cast(nested(micros(moment), BinaryOperator::Divide, number(by)), numeric(18, digits))
    };
    let year = |moment: Expr| cast(part("year", moment), DataType::Integer(None));
    // Years before the first one count backwards, which no function of the planner's does.
    let periods = |years: u64, moment: Expr| {
        let last = nested(year(moment), BinaryOperator::Plus, number(years - 1));
        cast(nested(last, BinaryOperator::Divide, number(years)), numeric(10, 0))
    };
    let name = match field {
        DateTimeField::Custom(ident) => folded(ident),
        other => other.to_string().to_ascii_lowercase(),
    };
    Some(match name.as_str() {
        "second" | "seconds" => shifted(6, 1_000_000, moment),
        "millisecond" | "milliseconds" => shifted(3, 1_000, moment),
        "microsecond" | "microseconds" => micros(moment),
        "epoch" => cast(part("epoch", moment), numeric(20, 6)),
        "century" => periods(100, moment),
        "millennium" => periods(1_000, moment),
        "decade" => cast(nested(year(moment), BinaryOperator::Divide, number(10)), numeric(10, 0)),
        "julian" => {
            let day = cast(moment, DataType::Date);
            let since = nested(
                day,
                BinaryOperator::Minus,
                cast(Expr::value(Value::SingleQuotedString("1970-01-01".to_owned())), DataType::Date),
            );
            cast(nested(since, BinaryOperator::Plus, number(2_440_588)), numeric(10, 0))
        }
        known => cast(part(known, moment), numeric(10, 0)),
    })
}

/// `make_interval(days => 10)` with every part in its place.
fn name_parts(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let named = |name: &Ident| INTERVAL_PARTS.iter().position(|known| *known == folded(name));
    let mut parts: Vec<Expr> = vec![number(0); INTERVAL_PARTS.len()];
    for (at, argument) in list.args.iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(at), value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (named(name), value),
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (named(name), value),
            _ => return,
        };
        // What has no place is left for the planner to refuse.
        let Some(part) = place.and_then(|place| parts.get_mut(place)) else { return };
        *part = value.clone();
    }
    list.args = parts.into_iter().map(|one| FunctionArg::Unnamed(FunctionArgExpr::Expr(one))).collect();
}

/// `json_agg(x ORDER BY y)`: the array of each value as json, as one json.
fn collected(function: &mut Function, binary: bool) -> Expr {
    arguments(function).for_each(|value| *value = call("to_json", vec![take(value)]));
    let array = aggregated(function.clone());
    finished(call(json::COLLECT, vec![array]), binary)
}

/// `json_object_agg(key, value)`: the array of the keys and that of the values, as one json.
fn collected_object(function: &mut Function, binary: bool) -> Option<Expr> {
    let both: Vec<Expr> = arguments(function).map(|one| one.clone()).collect();
    let [key, value] = <[Expr; 2]>::try_from(both).ok()?;
    let array = |value: Expr| {
        let mut function = function.clone();
        if let FunctionArguments::List(list) = &mut function.args {
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))];
        }
        aggregated(function)
    };
    let keys = array(cast(key, DataType::Text));
    let values = array(call("to_json", vec![value]));
    Some(finished(call(json::COLLECT_OBJECT, vec![keys, values]), binary))
}

fn aggregated(mut function: Function) -> Expr {
    function.name = ObjectName::from(vec![Ident::new("array_agg")]);
    Expr::Function(function)
}

fn finished(json: Expr, binary: bool) -> Expr {
    if binary { call("jsonb", vec![json]) } else { json }
}

/// The arrays whose elements are the rows of a function that gives rows, and the names of its columns.
pub(super) fn arrays_of(
    name: &str,
    mut arguments: Vec<Expr>,
) -> Option<(Vec<Expr>, &'static [&'static str])> {
    if let Some(json) = arguments.first_mut().filter(|json| name.starts_with("jsonb_") && is_quoted(json)) {
        *json = call("jsonb", vec![take(json)]);
    }
    let with = |function: &str| call(function, arguments.clone());
    Some(match name {
        "json_array_elements"
        | "jsonb_array_elements"
        | "json_array_elements_text"
        | "jsonb_array_elements_text" => (vec![with(name)], &["value"]),
        "json_object_keys" => (vec![with(name)], &["json_object_keys"]),
        "jsonb_object_keys" => (vec![with(name)], &["jsonb_object_keys"]),
        "json_each" | "jsonb_each" => {
            (vec![with("json_object_keys"), with("json_each_values")], &["key", "value"])
        }
        "json_each_text" | "jsonb_each_text" => {
            (vec![with("json_object_keys"), with("json_each_text_values")], &["key", "value"])
        }
        "regexp_split_to_table" => (vec![with("regexp_split_to_array")], &["regexp_split_to_table"]),
        "string_to_table" => (vec![with("string_to_array")], &["string_to_table"]),
        "regexp_matches" => (vec![with("regexp_matches")], &["regexp_matches"]),
        _ => return None,
    })
}

/// The function that marks the values of a function's rows as json, where they are.
pub(super) fn mark_of(name: &str) -> Option<&'static str> {
    match name {
        "json_array_elements" | "json_each" => Some(json::MARK),
        "jsonb_array_elements" | "jsonb_each" => Some(json::MARK_BINARY),
        _ => None,
    }
}
