//! Operators on json, arrays, texts and bits.

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::starts_with;
use datafusion::functions_nested::expr_fn::array_has_any;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::planner::{PlannerResult, RawBinaryExpr};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::function::json::{self, json_type};

/// Plans an operator that DataFusion has not, or has for other types alone.
pub(super) fn plan(expr: RawBinaryExpr, left: &Field, right: &Field) -> PlannerResult<RawBinaryExpr> {
    use BinaryOperator as Op;
    let is_binary = [left, right].iter().any(|side| json_type(side) == Some("jsonb"));
    let function = match &expr.op {
        Op::Arrow => json::GET,
        Op::LongArrow => json::GET_TEXT,
        Op::HashArrow => json::GET_PATH,
        Op::HashLongArrow => json::GET_PATH_TEXT,
        Op::AtArrow if is_text(left) => json::CONTAINS,
        Op::ArrowAt if is_text(left) => {
            let RawBinaryExpr { left, right, .. } = expr;
            return called(json::CONTAINS, right, left);
        }
        Op::Question => json::HAS_KEY,
        Op::QuestionPipe => json::HAS_ANY,
        Op::QuestionAnd => json::HAS_ALL,
        Op::StringConcat if is_binary => json::CONCATENATE,
        Op::Minus if json_type(left) == Some("jsonb") => json::DELETE,
        Op::HashMinus => json::DELETE_PATH,
        Op::PGOverlap if is_list(left) && is_list(right) => {
            return PlannerResult::Planned(array_has_any(expr.left, expr.right));
        }
        Op::PGStartsWith => return PlannerResult::Planned(starts_with(expr.left, expr.right)),
        Op::Eq | Op::NotEq if is_binary => {
            return PlannerResult::Original(as_binary(expr, left, right));
        }
        _ => return PlannerResult::Original(read(expr, left, right)),
    };
    called(function, expr.left, expr.right)
}

fn called(function: &'static str, left: Expr, right: Expr) -> PlannerResult<RawBinaryExpr> {
    let func = json::operator(function);
    PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction { func, args: vec![left, right] }))
}

fn is_text(field: &Field) -> bool {
    let text = [DataType::Utf8, DataType::Utf8View, DataType::LargeUtf8, DataType::Null];
    text.contains(field.data_type())
}

fn is_list(field: &Field) -> bool {
    matches!(field.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// A text beside a jsonb is read as one, so that its order and blanks do not matter.
fn as_binary(expr: RawBinaryExpr, left: &Field, right: &Field) -> RawBinaryExpr {
    let read = |side: Expr, field: &Field| match json_type(field) {
        Some("jsonb") => side,
        _ => Expr::ScalarFunction(ScalarFunction { func: json::operator("jsonb"), args: vec![side] }),
    };
    RawBinaryExpr { left: read(expr.left, left), right: read(expr.right, right), op: expr.op }
}

/// A quoted literal is of no type yet: beside a number in arithmetic it is a number, beside a truth value one.
fn read(expr: RawBinaryExpr, left: &Field, right: &Field) -> RawBinaryExpr {
    use BinaryOperator as Op;
    let RawBinaryExpr { op, left: a, right: b } = expr;
    let reckons = matches!(op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo);
    let compares = matches!(op, Op::Eq | Op::NotEq);
    let wanted = |other: &Field, beside: &Expr| match other.data_type() {
        DataType::Int64 if reckons && matches!(beside, Expr::Literal(..)) => Some(DataType::Int32),
        number if reckons && number.is_numeric() => Some(number.clone()),
        DataType::Boolean if compares => Some(DataType::Boolean),
        _ => None,
    };
    match (is_quoted(&a), is_quoted(&b)) {
        (true, false) => match wanted(right, &b) {
            Some(to) => RawBinaryExpr { op, left: cast_to(a, to), right: b },
            None => RawBinaryExpr { op, left: a, right: b },
        },
        (false, true) => match wanted(left, &a) {
            Some(to) => RawBinaryExpr { op, right: cast_to(b, to), left: a },
            None => RawBinaryExpr { op, left: a, right: b },
        },
        _ => RawBinaryExpr { op, left: a, right: b },
    }
}

fn is_quoted(expr: &Expr) -> bool {
    use ScalarValue::{LargeUtf8, Utf8, Utf8View};
    matches!(expr, Expr::Literal(Utf8(Some(_)) | Utf8View(Some(_)) | LargeUtf8(Some(_)), _))
}

fn cast_to(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}
