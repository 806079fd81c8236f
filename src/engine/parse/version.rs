//! `name FOR VERSION AS OF n` and `name FOR TIMESTAMP AS OF ts`: a table of the past.
//!
//! The dialect knows no such words. They become an argument behind the table's name, under a name that
//! nobody types, and are found again where the query is planned.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, TableFunctionArgs};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::{NESTING_MAX, fold, syntax};
use crate::error::{Error, Result};

/// Stand for the words in front of the moment.
const VERSION: &str = "lacus version as of";
const TIMESTAMP: &str = "lacus timestamp as of";
const WORDS: [(&str, &str); 4] =
    [("VERSION", VERSION), ("SYSTEM_VERSION", VERSION), ("TIMESTAMP", TIMESTAMP), ("SYSTEM_TIME", TIMESTAMP)];
/// Tokens that a moment may have, blanks included.
const MOMENT_TOKENS_MAX: usize = 200;

/// The moment that a query names behind a table.
#[derive(Debug, Clone)]
pub enum Moment {
    Version(Expr),
    Timestamp(Expr),
}

impl Moment {
    /// Finds the moment again in what the parser made of it.
    pub fn of(args: &TableFunctionArgs) -> Option<Self> {
        let [argument] = args.args.as_slice() else { return None };
        let (name, value) = match argument {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (name, value),
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (name, value),
            _ => return None,
        };
        match fold(name).as_str() {
            VERSION => Some(Self::Version(value.clone())),
            TIMESTAMP => Some(Self::Timestamp(value.clone())),
            _ => None,
        }
    }
}

/// Puts every moment of a statement into parentheses.
///
/// # Errors
/// [`Error::Syntax`] for words that do not follow a table's name, and for what is no expression.
pub(super) fn mark(sql: &str, tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    if !tokens.iter().any(|token| kind(token).is_some()) {
        return Ok(tokens);
    }
    let mut marked = Vec::with_capacity(tokens.len() + 8);
    let mut at = 0;
    while at < tokens.len() {
        let Some((name, from)) = words(&tokens, at) else {
            marked.push(tokens[at].clone());
            at += 1;
            continue;
        };
        let before = marked.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_)));
        if !before.is_some_and(|token| matches!(token.token, Token::Word(_))) {
            let message = "FOR … AS OF follows the name of a table";
            return Err(syntax(sql, message, Some(tokens[at].span.start)));
        }
        let to = from + expression(&tokens[from..])?;
        let span = tokens[at].span;
        marked.push(token(Token::LParen, span));
        marked.push(token(Token::make_word(name, Some('"')), span));
        marked.push(token(Token::RArrow, span));
        marked.extend_from_slice(&tokens[from..to]);
        marked.push(token(Token::RParen, tokens[to - 1].span));
        at = to;
    }
    Ok(marked)
}

/// The words `FOR … AS OF` at a place: what they are called, and where the moment begins.
fn words(tokens: &[TokenWithSpan], at: usize) -> Option<(&'static str, usize)> {
    if !is_word(&tokens[at], "FOR") {
        return None;
    }
    let mut significant =
        (at + 1..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_)));
    let name = kind(&tokens[significant.next()?])?;
    let is_next = |wanted: &str, index: Option<usize>| index.is_some_and(|at| is_word(&tokens[at], wanted));
    if !is_next("AS", significant.next()) || !is_next("OF", significant.next()) {
        return None;
    }
    significant.next().map(|from| (name, from))
}

/// What kind of moment a word announces.
fn kind(token: &TokenWithSpan) -> Option<&'static str> {
    WORDS.iter().find(|(word, _)| is_word(token, word)).map(|(_, kind)| *kind)
}

fn is_word(token: &TokenWithSpan, wanted: &str) -> bool {
    match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

/// How many tokens the expression has that `tokens` begin with.
fn expression(tokens: &[TokenWithSpan]) -> Result<usize> {
    let some = tokens[..tokens.len().min(MOMENT_TOKENS_MAX)].to_vec();
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(NESTING_MAX);
    let mut parser = parser.with_tokens_with_locations(some);
    parser.parse_expr().map_err(Error::from)?;
    Ok(parser.index())
}

fn token(token: Token, span: Span) -> TokenWithSpan {
    TokenWithSpan { token, span }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn parsed(sql: &str) -> String {
        format!("{:?}", parse(sql))
    }

    #[test]
    fn moments_are_found_behind_names_only() {
        for sql in [
            "SELECT * FROM s.t FOR VERSION AS OF 5",
            "SELECT * FROM t FOR SYSTEM_VERSION AS OF 5 AS x WHERE x.a = 1",
            "SELECT * FROM t FOR TIMESTAMP AS OF now() - interval '1 hour' AS a JOIN u ON a.n = u.n",
            "SELECT * FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01 00:00:00' a, u FOR VERSION AS OF 7",
        ] {
            let text = parsed(sql);
            assert!(text.contains("as of"), "{sql}: {text}");
        }
        assert!(parsed("SELECT version AS of FROM t FOR UPDATE").starts_with("Ok"));
        let wrong = parsed("SELECT * FROM (SELECT 1) FOR VERSION AS OF 5");
        assert!(wrong.contains("follows the name of a table"), "{wrong}");
    }
}
