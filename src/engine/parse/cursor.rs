//! Statements about cursors: DECLARE, FETCH, MOVE and CLOSE.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Source, fold, from_parser};
use crate::engine::cursor::{ALL, Declare, Fetch, Movement};
use crate::engine::statement::Statement;
use crate::error::{Error, Result};

impl Source<'_> {
    /// `DECLARE name [BINARY] [[NO] SCROLL] CURSOR [{WITH | WITHOUT} HOLD] FOR query`.
    pub(super) fn declare(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::DECLARE).map_err(from_parser)?;
        let name = self.cursor_name()?;
        let (mut binary, mut scroll, mut no_scroll) = (false, false, false);
        loop {
            match self.word()?.as_str() {
                "binary" => binary = true,
                // Every cursor is: it sees the snapshot of its transaction.
                "insensitive" | "asensitive" => {}
                "scroll" => scroll = true,
                "no" => {
                    self.parser.expect_keyword(Keyword::SCROLL).map_err(from_parser)?;
                    no_scroll = true;
                }
                "cursor" => break,
                _ => return Err(self.unexpected("CURSOR")),
            }
        }
        if scroll && no_scroll {
            let message = "cannot specify both SCROLL and NO SCROLL".to_owned();
            return Err(Error::Syntax { message, position: None });
        }
        let hold = self.parser.parse_keyword(Keyword::WITH);
        if hold || self.parser.parse_keyword(Keyword::WITHOUT) {
            self.parser.expect_keyword(Keyword::HOLD).map_err(from_parser)?;
        }
        self.parser.expect_keyword(Keyword::FOR).map_err(from_parser)?;
        match self.start()? {
            Statement::Query(query) => {
                Ok(Statement::Declare(Box::new(Declare { name, query, binary, scroll, hold })))
            }
            other => Err(Error::Unsupported(format!("a cursor for {} is not supported", other.word()))),
        }
    }

    /// `FETCH` or `MOVE`: `[direction] [FROM | IN] name`.
    pub(super) fn fetch(&mut self, moves: bool) -> Result<Statement> {
        self.parser.next_token();
        let movement = self.movement()?;
        let _noise = self.parser.parse_one_of_keywords(&[Keyword::FROM, Keyword::IN]);
        let cursor = self.cursor_name()?;
        Ok(Statement::Fetch(Fetch { cursor, movement, moves }))
    }

    pub(super) fn close_cursor(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::CLOSE).map_err(from_parser)?;
        if self.parser.parse_keyword(Keyword::ALL) {
            return Ok(Statement::CloseCursor(None));
        }
        Ok(Statement::CloseCursor(Some(self.cursor_name()?)))
    }

    /// A direction; a cursor's name alone means the next row, also where it is a direction's word.
    fn movement(&mut self) -> Result<Movement> {
        let next = Movement::Forward(1);
        if let Some(rows) = self.number()? {
            return Ok(Movement::Forward(rows));
        }
        let Token::Word(word) = self.parser.peek_token().token else { return Ok(next) };
        let is_name = word.quote_style.is_some() || self.parser.peek_nth_token(1).token == Token::EOF;
        if is_name {
            return Ok(next);
        }
        let movement = match word.value.to_lowercase().as_str() {
            "next" => next,
            "prior" => Movement::Forward(-1),
            "first" => Movement::Absolute(1),
            "last" => Movement::Absolute(-1),
            "all" => Movement::Forward(ALL),
            "forward" => {
                self.parser.next_token();
                return Ok(Movement::Forward(self.rows()?));
            }
            "backward" => {
                self.parser.next_token();
                return Ok(Movement::Forward(-self.rows()?));
            }
            word @ ("absolute" | "relative") => {
                let absolute = word == "absolute";
                self.parser.next_token();
                let number = self.number()?.ok_or_else(|| self.unexpected("a number"))?;
                return Ok(if absolute { Movement::Absolute(number) } else { Movement::Relative(number) });
            }
            _ => return Ok(next),
        };
        self.parser.next_token();
        Ok(movement)
    }

    /// How many rows stand behind FORWARD or BACKWARD: one where it is not said.
    fn rows(&mut self) -> Result<i64> {
        if let Some(rows) = self.number()? {
            return Ok(rows);
        }
        Ok(if self.parser.parse_keyword(Keyword::ALL) { ALL } else { 1 })
    }

    fn number(&mut self) -> Result<Option<i64>> {
        let negative = self.parser.consume_token(&Token::Minus);
        if !negative {
            self.skip_token(&Token::Plus);
        }
        let Token::Number(digits, _) = self.parser.peek_token().token else {
            return if negative { Err(self.unexpected("a number")) } else { Ok(None) };
        };
        // As in PostgreSQL, whose counts are 32 bits wide.
        let number: i32 = digits.parse().map_err(|_| self.unexpected("a number of rows"))?;
        self.parser.next_token();
        Ok(Some(if negative { -i64::from(number) } else { number.into() }))
    }

    fn cursor_name(&mut self) -> Result<String> {
        Ok(fold(&self.parser.parse_identifier().map_err(from_parser)?))
    }
}
