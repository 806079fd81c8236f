//! Expressions: operators, function names and comparisons with arrays.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, Interval, ObjectName, Select, SelectItem, UnaryOperator, Value, ValueWithSpan, Values,
    WindowFrameBound, WindowSpec, WindowType,
};

use super::build::{call, cast, change_outside_queries, folded, inner, number, parts, take};
use super::casts::array_elements;
use super::functions::{arrays_of, mark_of};
use crate::function::{SIMILAR_TO_ESCAPE, TIMEZONE};

/// Schemas of built-in functions, which the planner knows by their bare names.
const FUNCTION_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// Rewrites an expression whose parts are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { op, .. } => plain_operator(op),
        Expr::Collate { expr: value, collation } if is_binary(collation) => *expr = take(value),
        Expr::Function(function) => {
            unqualify(function);
            since_today(function);
            frame_bounds(function);
            if let Some(operator) = division(function) {
                *expr = operator;
            }
        }
        // An interval is read as its text is cast; DataFusion's own reader knows fewer forms.
        Expr::Interval(interval) if interval.leading_field.is_none() && is_string(&interval.value) => {
            *expr = cast(take(&mut interval.value), INTERVAL);
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expr = call(TIMEZONE, vec![take(time_zone), take(timestamp)]);
        }
        Expr::SimilarTo { negated, expr: value, pattern, escape_char } => {
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            let mut arguments = vec![take(pattern)];
            arguments.extend(escape_char.take().map(Expr::Value));
            let pattern = Box::new(call(SIMILAR_TO_ESCAPE, arguments));
            *expr =
                Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(take(value)), op, right: pattern }));
        }
        // The planner makes decimals of literals, and none is as wide as an exponent can ask for.
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) if digits.contains(['e', 'E']) => {
            let text = Expr::value(Value::SingleQuotedString(digits.clone()));
            *expr = cast(text, DataType::DoublePrecision);
        }
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            // Words that call a function without parentheses, and no column can have for a name.
            if let name @ ("current_schema" | "current_role") = ident.value.to_ascii_lowercase().as_str() {
                *expr = call(name, vec![]);
            }
        }
        Expr::AnyOp { left, compare_op, right, .. } => {
            plain_operator(compare_op);
            if *compare_op == BinaryOperator::Eq
                && let Some(list) = listed(right)
            {
                *expr = Expr::InList { expr: Box::new(take(left)), list, negated: false };
            }
        }
        Expr::AllOp { left, compare_op, right } => {
            plain_operator(compare_op);
            if *compare_op == BinaryOperator::NotEq
                && let Some(list) = listed(right)
            {
                *expr = Expr::InList { expr: Box::new(take(left)), list, negated: true };
            }
        }
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => {
            if let Some(either) = like_any(expr) {
                *expr = either;
            }
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            escape(pattern, escape_char);
        }
        // `t.a[1]` starts with a name too, and the planner reads it as the column that it is.
        Expr::CompoundFieldAccess { root, access_chain } if !matches!(**root, Expr::Identifier(_)) => {
            access_chain.iter_mut().for_each(plain_access);
        }
        _ => {}
    }
}

/// `(x).field` with the field as a text, which is how the planner takes it.
fn plain_access(access: &mut AccessExpr) {
    if let AccessExpr::Dot(field) = access
        && let Expr::Identifier(ident) = field
    {
        *field = Expr::value(Value::SingleQuotedString(folded(ident)));
    }
}

/// `OPERATOR(pg_catalog.~)` as `~`.
fn plain_operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(path) = op else {
        return;
    };
    let symbol = match path.as_slice() {
        [symbol] => symbol,
        [schema, symbol] if schema == "pg_catalog" => symbol,
        _ => return,
    };
    *op = match symbol.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        _ => return,
    };
}

/// Collations that compare bytes, which is how everything is compared.
fn is_binary(collation: &ObjectName) -> bool {
    let name = parts(collation).pop().unwrap_or_default();
    ["default", "C", "c", "POSIX", "posix", "ucs_basic", "C.UTF-8"].contains(&name.as_str())
}

fn unqualify(function: &mut Function) {
    let path = parts(&function.name);
    if let [schema, name] = path.as_slice()
        && FUNCTION_SCHEMAS.contains(&schema.as_str())
    {
        function.name = ObjectName::from(vec![Ident::new(name.clone())]);
    }
}

const INTERVAL: DataType = DataType::Interval { fields: None, precision: None };

fn is_string(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }))
}

/// The bounds of a window's frame stay intervals as they are written: the planner takes no others.
fn frame_bounds(function: &mut Function) {
    let Some(WindowType::WindowSpec(WindowSpec { window_frame: Some(frame), .. })) = &mut function.over
    else {
        return;
    };
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(bound)) | WindowFrameBound::Following(Some(bound)) = bound
            && let Expr::Cast { expr, data_type: INTERVAL, .. } = bound.as_mut()
        {
            **bound = Expr::Interval(Interval {
                value: Box::new(take(expr)),
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            });
        }
    }
}

/// `mod(a, b)` and `div(a, b)` as operators.
fn division(function: &mut Function) -> Option<Expr> {
    let name = parts(&function.name);
    let op = match name.as_slice() {
        [name] if name == "mod" => BinaryOperator::Modulo,
        [name] if name == "div" => BinaryOperator::Divide,
        _ => return None,
    };
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(left)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(right)),
    ] = list.args.as_mut_slice()
    else {
        return None;
    };
    let nested = |expr: &mut Expr| Box::new(Expr::Nested(Box::new(take(expr))));
    let truncated = op == BinaryOperator::Divide;
    let result = Expr::BinaryOp { left: nested(left), op, right: nested(right) };
    Some(if truncated { call("trunc", vec![result]) } else { Expr::Nested(Box::new(result)) })
}

/// A whole number that is a column of its own is an `integer` if it fits into one.
pub(super) fn integer_columns(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            integer(expr);
        }
    }
}

/// The same for the rows of VALUES.
pub(super) fn integer_values(values: &mut Values) {
    values.rows.iter_mut().flat_map(|row| row.iter_mut()).for_each(integer);
}

pub(super) fn integer(expr: &mut Expr) {
    let digits = match &*expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => expr.as_ref(),
        other => other,
    };
    let Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) = digits else { return };
    if digits.parse::<i32>().is_ok() {
        *expr = cast(take(expr), DataType::Integer(None));
    }
}

/// `age(moment)` as `age(current_date, moment)`.
fn since_today(function: &mut Function) {
    if parts(&function.name) == ["age"]
        && let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 1
    {
        let today = FunctionArg::Unnamed(FunctionArgExpr::Expr(call("current_date", vec![])));
        list.args.insert(0, today);
    }
}

/// The elements of a written array that is not empty; a list in IN cannot be.
fn listed(array: &mut Expr) -> Option<Vec<Expr>> {
    match array {
        Expr::Nested(nested) => listed(nested),
        Expr::Array(array) if !array.elem.is_empty() => Some(std::mem::take(&mut array.elem)),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            let elements = array_elements(text).filter(|elements| !elements.is_empty())?;
            let value = |one: Option<String>| one.map_or(Value::Null, Value::SingleQuotedString);
            Some(elements.into_iter().map(|one| Expr::value(value(one))).collect())
        }
        Expr::Cast { expr, data_type: DataType::Array(item), .. } => {
            use datafusion::sql::sqlparser::ast::ArrayElemTypeDef::SquareBracket;
            let SquareBracket(item, None) = item else {
                return None;
            };
            let item = item.as_ref().clone();
            Some(listed(expr)?.into_iter().map(|one| cast(one, item.clone())).collect())
        }
        _ => None,
    }
}

/// `x LIKE ANY (ARRAY[p, q])` as `x LIKE p OR x LIKE q`.
fn like_any(expr: &Expr) -> Option<Expr> {
    let (Expr::Like { pattern, .. } | Expr::ILike { pattern, .. }) = expr else { return None };
    let one = |pattern: Expr| {
        let mut like = expr.clone();
        if let Expr::Like { any, pattern: own, .. } | Expr::ILike { any, pattern: own, .. } = &mut like {
            (*any, **own) = (false, pattern);
        }
        like
    };
    let all = listed(&mut pattern.as_ref().clone())?.into_iter().map(one);
    let or =
        |left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) };
    all.reduce(or).map(|either| Expr::Nested(Box::new(either)))
}

/// `LIKE p ESCAPE e` with a pattern that escapes with backslashes.
fn escape(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) {
    let Some(escape) = escape_char.take() else {
        return;
    };
    if matches!(&escape.value, Value::SingleQuotedString(text) if text == "\\") {
        return;
    }
    *pattern = call("like_escape", vec![take(pattern), Expr::Value(escape)]);
}

/// Functions in the SELECT list that give several rows.
pub(super) fn expand_series(select: &mut Select) {
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        change_outside_queries(expr, |expr| {
            if let Expr::Function(function) = &*expr
                && parts(&function.name).last().is_some_and(|name| EXPANDED.contains(&name.as_str()))
            {
                *expr = call("unnest", vec![take(expr)]);
            }
        });
        let Expr::Function(function) = &*expr else {
            continue;
        };
        let name = parts(&function.name).pop();
        if let Some(name) = &name
            && let FunctionArguments::List(list) = &function.args
            && let Some((arrays, _)) = arrays_of(name, list.args.iter().filter_map(plain_argument).collect())
            && let [array] = arrays.as_slice()
        {
            let rows = call("unnest", vec![array.clone()]);
            *expr = match mark_of(name) {
                Some(mark) => call(mark, vec![rows]),
                None => rows,
            };
            continue;
        }
        match name.as_deref() {
            Some("generate_series") => *expr = call("unnest", vec![take(expr)]),
            Some("generate_subscripts") => {
                if let Some(array) = first_argument(function) {
                    let length = cast(call("cardinality", vec![array]), DataType::BigInt(None));
                    *expr = call("unnest", vec![call("generate_series", vec![number(1), length])]);
                }
            }
            _ => {}
        }
    }
}

/// Functions that give a list of rows, where PostgreSQL's give the rows.
const EXPANDED: [&str; 2] = ["_pg_expandarray", "aclexplode"];

fn plain_argument(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

fn first_argument(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(inner(expr).clone()),
        _ => None,
    }
}
