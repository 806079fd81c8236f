//! Expressions: operators, function names and comparisons with arrays.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectName, Select, SelectItem, Value, ValueWithSpan,
};

use super::build::{call, cast, folded, inner, number, parts, take};

/// Schemas of built-in functions, which the planner knows by their bare names.
const FUNCTION_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// Rewrites an expression whose parts are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { op, .. } => plain_operator(op),
        Expr::Collate { expr: value, collation } if is_binary(collation) => *expr = take(value),
        Expr::Function(function) => unqualify(function),
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

/// The elements of a written array that is not empty; a list in IN cannot be.
fn listed(array: &mut Expr) -> Option<Vec<Expr>> {
    match array {
        Expr::Nested(nested) => listed(nested),
        Expr::Array(array) if !array.elem.is_empty() => Some(std::mem::take(&mut array.elem)),
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
        let Expr::Function(function) = &*expr else {
            continue;
        };
        match parts(&function.name).pop().as_deref() {
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

fn first_argument(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(inner(expr).clone()),
        _ => None,
    }
}
