//! Statements that tend files: `VACUUM`, `OPTIMIZE`, `ANALYZE`, and Trino's `ALTER TABLE … EXECUTE optimize`.

use std::time::Duration;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::Statement;
use super::super::upkeep::{Optimize, Order, Upkeep, Vacuum};
use super::{Source, fold, from_parser, name_of};
use crate::config::Size;
use crate::error::{Error, Result};
use crate::value::input;

impl Source<'_> {
    /// `VACUUM [(option [value], …)] [table, …]`.
    pub(super) fn vacuum(&mut self) -> Result<Statement> {
        self.parser.next_token();
        let mut vacuum = Vacuum::default();
        if self.parser.consume_token(&Token::LParen) {
            loop {
                self.vacuum_option(&mut vacuum)?;
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        }
        while self.parser.peek_token().token != Token::EOF {
            vacuum.names.push(name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?);
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(Statement::Upkeep(Box::new(Upkeep::Vacuum(vacuum))))
    }

    fn vacuum_option(&mut self, vacuum: &mut Vacuum) -> Result<()> {
        let mut name = self.word()?;
        if name == "dry" {
            name = format!("dry_{}", self.word()?);
        }
        match name.as_str() {
            "dry_run" => vacuum.dry_run = self.flag()?,
            "force" => vacuum.force = self.flag()?,
            "retain" => vacuum.retain = Some(self.duration("RETAIN")?),
            "grace" => vacuum.grace = Some(self.duration("GRACE")?),
            other => {
                let name = other.to_uppercase();
                let message = format!("VACUUM has no option {name}: it has DRY_RUN, RETAIN, GRACE and FORCE");
                return Err(Error::Unsupported(message));
            }
        }
        Ok(())
    }

    /// An option that is on, unless its value says no.
    fn flag(&mut self) -> Result<bool> {
        if matches!(self.parser.peek_token().token, Token::Comma | Token::RParen) {
            return Ok(true);
        }
        match self.value()?.to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            other => Err(Error::InvalidParameter(format!("\"{other}\" is neither true nor false"))),
        }
    }

    fn duration(&mut self, option: &str) -> Result<Duration> {
        let text = self.value()?;
        let interval = input::interval(&text)?;
        let days = i64::from(interval.months) * 30 + i64::from(interval.days);
        let nanoseconds = i128::from(days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
        let negative = || Error::InvalidParameter(format!("{option} must not be negative: \"{text}\""));
        let nanoseconds = u128::try_from(nanoseconds).map_err(|_| negative())?;
        Ok(Duration::from_secs(u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(u64::MAX)))
    }

    /// `ANALYZE [t [(column, …)], …]`.
    pub(super) fn analyze(&mut self) -> Result<Statement> {
        self.parser.next_token();
        let mut tables = Vec::new();
        while self.parser.peek_token().token != Token::EOF {
            let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
            let mut columns = Vec::new();
            if self.parser.consume_token(&Token::LParen) {
                let names = self.parser.parse_comma_separated(|parser| parser.parse_identifier());
                columns = names.map_err(from_parser)?.iter().map(fold).collect();
                self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
            }
            tables.push((name, columns));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(Statement::Upkeep(Box::new(Upkeep::Analyze(tables))))
    }

    /// `OPTIMIZE [TABLE] t [WHERE …] [ORDER BY … | ZORDER BY (…)]`.
    pub(super) fn optimize(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.skip(Keyword::TABLE);
        let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
        let mut optimize = Optimize::of(name);
        if self.parser.parse_keyword(Keyword::WHERE) {
            optimize.filter = Some(Box::new(self.parser.parse_expr().map_err(from_parser)?));
        }
        optimize.order = self.file_order()?;
        Ok(Statement::Upkeep(Box::new(Upkeep::Optimize(optimize))))
    }

    fn file_order(&mut self) -> Result<Order> {
        if self.parser.parse_keywords(&[Keyword::ORDER, Keyword::BY]) {
            let keys = self.parser.parse_comma_separated(|parser| parser.parse_order_by_expr());
            return Ok(Order::By(keys.map_err(from_parser)?));
        }
        let is_z = matches!(self.parser.peek_token().token, Token::Word(word) if word.value.eq_ignore_ascii_case("zorder"));
        if !is_z {
            return Ok(Order::AsItComes);
        }
        self.parser.next_token();
        self.parser.expect_keyword(Keyword::BY).map_err(from_parser)?;
        self.parser.expect_token(&Token::LParen).map_err(from_parser)?;
        let columns = self.parser.parse_comma_separated(|parser| parser.parse_identifier());
        let columns = columns.map_err(from_parser)?.iter().map(fold).collect();
        self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        Ok(Order::Z(columns))
    }

    /// Whether the statement, which begins with ALTER TABLE, goes on with EXECUTE.
    pub(super) fn is_execute(&self) -> bool {
        let is_word = |ahead: usize, keyword| matches!(self.parser.peek_nth_token(ahead).token, Token::Word(word) if word.keyword == keyword);
        // A name has up to three parts, with periods between them.
        is_word(1, Keyword::TABLE) && [3, 5, 7].into_iter().any(|ahead| is_word(ahead, Keyword::EXECUTE))
    }

    /// `ALTER TABLE t EXECUTE optimize [(file_size_threshold => '100MB')] [WHERE …]`, as in Trino.
    pub(super) fn alter_execute(&mut self) -> Result<Statement> {
        self.parser.expect_keywords(&[Keyword::ALTER, Keyword::TABLE]).map_err(from_parser)?;
        let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
        self.parser.expect_keyword(Keyword::EXECUTE).map_err(from_parser)?;
        let procedure = self.word()?;
        if procedure != "optimize" {
            return Err(Error::Unsupported(format!("ALTER TABLE … EXECUTE {procedure} is not supported")));
        }
        let mut optimize = Optimize::of(name);
        if self.parser.consume_token(&Token::LParen) {
            if self.word()? != "file_size_threshold" {
                return Err(self.unexpected("file_size_threshold"));
            }
            self.parser.expect_token(&Token::RArrow).map_err(from_parser)?;
            let text = self.value()?;
            let size: Size = text.parse().map_err(|_| {
                Error::InvalidParameter(format!("file_size_threshold is no size such as '100MB': \"{text}\""))
            })?;
            optimize.small_bytes = Some(size.0);
            self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        }
        if self.parser.parse_keyword(Keyword::WHERE) {
            optimize.filter = Some(Box::new(self.parser.parse_expr().map_err(from_parser)?));
        }
        Ok(Statement::Upkeep(Box::new(Upkeep::Optimize(optimize))))
    }
}
