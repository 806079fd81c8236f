//! Files in FROM: `read_csv('…', header => false)` and `FROM 's3://…'`, as a query writes them.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFunctionArgs,
    UnaryOperator, Value,
};

use crate::catalog::files_function::{FilesCall, function_kind};
use crate::engine::parse::fold;
use crate::error::{Error, Result};
use crate::format::files::extension::FileKind;

/// The files that a query names in one place.
#[derive(Debug, Clone)]
pub struct FileCall {
    function: Option<String>,
    kind: Option<FileKind>,
    path: String,
    arguments: Vec<(String, String)>,
}

impl FileCall {
    /// Recognises files in a table factor; none for any other table or function.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for arguments that are no constants.
    pub fn of(name: &ObjectName, args: Option<&TableFunctionArgs>) -> Result<Option<Self>> {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return Ok(None) };
        let Some(args) = args else {
            let is_path = ident.quote_style == Some('\'');
            let path = ident.value.clone();
            return Ok(is_path.then_some(Self { function: None, kind: None, path, arguments: Vec::new() }));
        };
        let function = fold(ident);
        let Some(kind) = function_kind(&function) else { return Ok(None) };
        let mut call =
            Self { function: Some(function), kind: Some(kind), path: String::new(), arguments: Vec::new() };
        for argument in &args.args {
            call.argument(argument)?;
        }
        match call.path.is_empty() {
            true => Err(call.wrong("needs the path of files, such as 'raw/day.csv'")),
            false => Ok(Some(call)),
        }
    }

    pub fn borrowed(&self) -> FilesCall<'_> {
        FilesCall { kind: self.kind, path: &self.path, arguments: &self.arguments }
    }

    /// The name by which the query can call the table, without an alias of its own.
    pub fn alias(&self) -> &str {
        self.function.as_deref().unwrap_or(&self.path)
    }

    fn argument(&mut self, argument: &FunctionArg) -> Result<()> {
        let (name, value) = match argument {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (Some(fold(name)), value),
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (Some(fold(name)), value),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => match assignment(value) {
                Some((name, value)) => (Some(fold(name)), value),
                None => (None, value),
            },
            _ => return Err(self.wrong("takes a path and named options")),
        };
        let text = constant(value).ok_or_else(|| self.wrong("takes constants only"))?;
        match name {
            Some(name) => self.arguments.push((name, text)),
            None if self.path.is_empty() => self.path = text,
            None => return Err(self.wrong("takes one path; options are named, as in header => false")),
        }
        Ok(())
    }

    fn wrong(&self, what: &str) -> Error {
        Error::InvalidParameter(format!("{} {what}", self.alias()))
    }
}

/// `header = false`, as DuckDB writes options.
fn assignment(expr: &Expr) -> Option<(&Ident, &Expr)> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match left.as_ref() {
            Expr::Identifier(name) => Some((name, right)),
            _ => None,
        },
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
            Value::Number(number, _) => Some(number.clone()),
            Value::Boolean(value) => Some(value.to_string()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => constant(expr).map(|number| format!("-{number}")),
        _ => None,
    }
}
