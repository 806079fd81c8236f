//! `ALTER TABLE … RESTORE TO …` and `UNDROP TABLE …`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::Statement;
use super::version::Moment;
use super::{Source, fold, from_parser, name_of};
use crate::error::Result;

/// Tokens of `ALTER TABLE IF EXISTS catalog.schema.table` and the word behind them.
const AHEAD_MAX: usize = 10;

impl Source<'_> {
    /// Whether the statement is `ALTER TABLE … RESTORE TO`.
    pub(super) fn is_restore(&self) -> bool {
        let is_word = |ahead: usize, wanted: &str| match &self.parser.peek_nth_token(ahead).token {
            Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
            _ => false,
        };
        (2..AHEAD_MAX).any(|ahead| is_word(ahead, "RESTORE") && is_word(ahead + 1, "TO"))
    }

    /// `ALTER TABLE [IF EXISTS] t RESTORE TO { VERSION n | TIMESTAMP ts }`.
    pub(super) fn restore(&mut self) -> Result<Statement> {
        self.parser.expect_keywords(&[Keyword::ALTER, Keyword::TABLE]).map_err(from_parser)?;
        let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
        self.parser.next_token();
        self.parser.expect_keyword(Keyword::TO).map_err(from_parser)?;
        let words = [Keyword::VERSION, Keyword::TIMESTAMP];
        let word = self.parser.expect_one_of_keywords(&words).map_err(from_parser)?;
        let expr = self.parser.parse_expr().map_err(from_parser)?;
        let to = if word == Keyword::VERSION { Moment::Version(expr) } else { Moment::Timestamp(expr) };
        Ok(Statement::Restore { name, to: Box::new(to), if_exists })
    }

    /// `UNDROP TABLE t [AS name]`, also with `RENAME TO` for `AS`.
    pub(super) fn undrop(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.parser.expect_keyword(Keyword::TABLE).map_err(from_parser)?;
        let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
        let renames = self.parser.parse_keyword(Keyword::AS)
            || self.parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]);
        let to = match renames {
            true => Some(fold(&self.parser.parse_identifier().map_err(from_parser)?)),
            false => None,
        };
        Ok(Statement::Undrop { name, to })
    }
}
