//! COPY: its direction, and its options in the form of today and in those of before.

use datafusion::sql::sqlparser::ast::{self, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::IsOptional;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Source, fold, name_of};
use crate::engine::copy::options::{Columns, CopyOptions, CopyValue, Direction};
use crate::engine::statement::{CopyFrom, CopyTo, Export, Statement};
use crate::error::{Error, Result};

/// What is copied.
enum What {
    Query(Box<ast::Query>),
    Table(ast::ObjectName, Vec<Ident>),
}

impl Source<'_> {
    /// `COPY table [(columns)] FROM STDIN`, `COPY table|(query) TO STDOUT`, `COPY table|(query) TO 'url'`.
    pub(super) fn copy(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::COPY).map_err(Error::from)?;
        let mut given = Vec::new();
        if self.parser.parse_keyword(Keyword::BINARY) {
            given.push(("format".to_owned(), CopyValue::One("binary".to_owned())));
        }
        let what = self.copied()?;
        let to = self.parser.expect_one_of_keywords(&[Keyword::TO, Keyword::FROM]).map_err(Error::from)?;
        let direction = if to == Keyword::TO { Direction::To } else { Direction::From };
        self.refuse_program(direction)?;
        if let Token::SingleQuotedString(url) = self.parser.peek_token().token {
            self.parser.next_token();
            return self.export(what, url, direction);
        }
        self.parser.expect_one_of_keywords(&[Keyword::STDIN, Keyword::STDOUT]).map_err(Error::from)?;
        self.copy_options(&mut given)?;
        let options = CopyOptions::of(given, direction)?;
        match (what, direction) {
            (what, Direction::To) => {
                let query = self.query_copied(what)?;
                Ok(Statement::CopyTo(Box::new(CopyTo { query, options })))
            }
            (What::Table(name, columns), Direction::From) => {
                let condition = match self.parser.parse_keyword(Keyword::WHERE) {
                    true => Some(self.parser.parse_expr().map_err(Error::from)?),
                    false => None,
                };
                let columns = columns.iter().map(fold).collect();
                Ok(Statement::CopyFrom(Box::new(CopyFrom {
                    name: name_of(&name)?,
                    columns,
                    options,
                    condition,
                })))
            }
            (What::Query(_), Direction::From) => Err(self.unexpected("TO")),
        }
    }

    fn copied(&mut self) -> Result<What> {
        if self.parser.consume_token(&Token::LParen) {
            let query = self.parser.parse_query().map_err(Error::from)?;
            self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
            return Ok(What::Query(query));
        }
        let name = self.parser.parse_object_name(false).map_err(Error::from)?;
        let columns = self.parser.parse_parenthesized_column_list(IsOptional::Optional, false);
        Ok(What::Table(name, columns.map_err(Error::from)?))
    }

    fn query_copied(&self, what: What) -> Result<Box<ast::Query>> {
        match what {
            What::Query(query) => Ok(query),
            What::Table(name, columns) => {
                let columns: Vec<String> = columns.iter().map(Ident::to_string).collect();
                let list = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
                self.query_from_text(&format!("SELECT {list} FROM {name}"))
            }
        }
    }

    fn refuse_program(&self, direction: Direction) -> Result<()> {
        let Token::Word(word) = self.parser.peek_token().token else { return Ok(()) };
        if !word.value.eq_ignore_ascii_case("program") {
            return Ok(());
        }
        let way = if direction == Direction::To { "to" } else { "from" };
        Err(Error::PermissionDenied(format!("COPY {way} a program: the server starts none")))
    }

    /// `COPY … TO 'url' [WITH] (options)`.
    fn export(&mut self, what: What, url: String, direction: Direction) -> Result<Statement> {
        if direction == Direction::From {
            return Err(Error::PermissionDenied(
                "COPY from a file of the server: COPY … FROM STDIN and psql's \\copy read the client's, \
                 INSERT … SELECT * FROM 'url' the lake's"
                    .to_owned(),
            ));
        }
        let query = self.query_copied(what)?;
        self.skip(Keyword::WITH);
        let options = self.export_options()?;
        Ok(Statement::Export(Box::new(Export { query, url, options })))
    }

    fn export_options(&mut self) -> Result<Vec<(String, Vec<String>)>> {
        let mut options = Vec::new();
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(options);
        }
        loop {
            let name = self.word()?;
            self.skip_token(&Token::Eq);
            let mut values = Vec::new();
            if self.parser.consume_token(&Token::LParen) {
                values = self.names()?;
                self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
            } else if !matches!(self.parser.peek_token().token, Token::Comma | Token::RParen) {
                values.push(self.value()?);
            }
            options.push((name, values));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
        Ok(options)
    }

    fn names(&mut self) -> Result<Vec<String>> {
        let names = self.parser.parse_comma_separated(|parser| parser.parse_identifier());
        Ok(names.map_err(Error::from)?.iter().map(fold).collect())
    }

    /// `[WITH] (FORMAT csv, …)`, or the words of before 9.0: `[WITH] CSV HEADER DELIMITER AS ';'`.
    fn copy_options(&mut self, given: &mut Vec<(String, CopyValue)>) -> Result<()> {
        self.skip(Keyword::WITH);
        if !self.parser.consume_token(&Token::LParen) {
            while self.old_option(given)? {}
            return Ok(());
        }
        loop {
            let name = self.word()?;
            let value = match self.parser.peek_token().token {
                Token::Comma | Token::RParen => CopyValue::None,
                Token::Mul => CopyValue::Columns(self.column_choice()?),
                Token::LParen => {
                    self.parser.next_token();
                    let columns = self.column_choice()?;
                    self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
                    CopyValue::Columns(columns)
                }
                _ => CopyValue::One(self.option_value(&name)?),
            };
            given.push((name, value));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
        Ok(())
    }

    /// A value of which words, but for those of a format, keep their case.
    fn option_value(&mut self, name: &str) -> Result<String> {
        let value = self.value()?;
        Ok(if name == "format" { value.to_lowercase() } else { value })
    }

    fn column_choice(&mut self) -> Result<Columns> {
        match self.parser.consume_token(&Token::Mul) {
            true => Ok(Columns::All),
            false => Ok(Columns::Named(self.names()?)),
        }
    }

    /// One option in the words of before; false where none stands.
    fn old_option(&mut self, given: &mut Vec<(String, CopyValue)>) -> Result<bool> {
        let Token::Word(word) = self.parser.peek_token().token else { return Ok(false) };
        let word = word.value.to_lowercase();
        let (name, value) = match word.as_str() {
            "binary" | "csv" => ("format", CopyValue::One(word)),
            "freeze" | "header" => (word.as_str(), CopyValue::None),
            "using" | "delimiter" | "delimiters" | "null" | "quote" | "escape" | "encoding" | "force" => {
                self.parser.next_token();
                return self.old_value(&word, given).map(|()| true);
            }
            _ => return Ok(false),
        };
        given.push((name.to_owned(), value));
        self.parser.next_token();
        Ok(true)
    }

    /// What stands behind the first word of an old option that has a value.
    fn old_value(&mut self, word: &str, given: &mut Vec<(String, CopyValue)>) -> Result<()> {
        if word == "force" {
            let name = match self.word()?.as_str() {
                "quote" => "force_quote",
                "null" => "force_null",
                "not" => {
                    self.parser.expect_keyword(Keyword::NULL).map_err(Error::from)?;
                    "force_not_null"
                }
                _ => return Err(self.unexpected("QUOTE, NOT NULL or NULL")),
            };
            let columns = self.column_choice()?;
            given.push((name.to_owned(), CopyValue::Columns(columns)));
            return Ok(());
        }
        let name = match word {
            "using" => match self.word()?.as_str() {
                "delimiters" => "delimiter",
                _ => return Err(self.unexpected("DELIMITERS")),
            },
            "delimiters" => "delimiter",
            other => other,
        };
        self.skip(Keyword::AS);
        let value = self.value()?;
        given.push((name.to_owned(), CopyValue::One(value)));
        Ok(())
    }
}
