//! `ASSERT`: what must be true of the lake, or else the transaction fails.

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{Assert, Asserted, Statement};
use super::{Source, from_parser, name_of};
use crate::error::Result;

impl Source<'_> {
    /// `ASSERT (query)[, 'message']`, `ASSERT condition[, 'message']`,
    /// `ASSERT (query) QUARANTINE INTO table[, 'message']`.
    pub(super) fn assert(&mut self) -> Result<Statement> {
        self.parser.next_token();
        let what = match self.parser.parse_expr().map_err(from_parser)? {
            Expr::Subquery(query) => Asserted::NoRows(query),
            condition => Asserted::Condition(Box::new(condition)),
        };
        let mut quarantine = None;
        if self.is_word("quarantine") {
            self.parser.next_token();
            self.parser.expect_keyword(Keyword::INTO).map_err(from_parser)?;
            quarantine = Some(name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?);
        }
        let message = match self.parser.consume_token(&Token::Comma) {
            true => Some(self.parser.parse_literal_string().map_err(from_parser)?),
            false => None,
        };
        Ok(Statement::Assert(Box::new(Assert { what, quarantine, message })))
    }

    /// Whether the next word is this one, unquoted.
    pub(super) fn is_word(&self, wanted: &str) -> bool {
        matches!(&self.parser.peek_token().token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
    }
}
