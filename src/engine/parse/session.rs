//! Statements about the session: settings, prepared statements, listings.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{Branch, Discard, Parsed, Show, Statement};
use super::{Source, fold, from_parser, name_of, offset, schema_of};
use crate::error::{Error, Result};

impl Source<'_> {
    /// `SET [SESSION | LOCAL] name { TO | = } value, …` and its relatives.
    pub(super) fn set(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::SET).map_err(from_parser)?;
        let local = self.parser.parse_keyword(Keyword::LOCAL);
        if !local {
            self.skip(Keyword::SESSION);
        }
        let mut name = self.setting_name()?;
        match name.as_str() {
            "time" => {
                self.parser.expect_keyword(Keyword::ZONE).map_err(from_parser)?;
                "timezone".clone_into(&mut name);
            }
            "names" => "client_encoding".clone_into(&mut name),
            "transaction" => return self.set_transaction(),
            "characteristics" => return self.set_characteristics(),
            "authorization" => "session_authorization".clone_into(&mut name),
            _ => {}
        }
        if !self.parser.consume_token(&Token::Eq) {
            self.skip(Keyword::TO);
        }
        if self.parser.parse_keyword(Keyword::DEFAULT) {
            return Ok(Statement::Set { name, value: None, local });
        }
        let mut values = Vec::new();
        loop {
            // An empty list is PostgreSQL's way to say "none": SET search_path = ''.
            values.push(self.value()?);
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(Statement::Set { name, value: Some(values.join(", ")), local })
    }

    fn setting_name(&mut self) -> Result<String> {
        let mut name = self.word()?;
        while self.parser.consume_token(&Token::Period) {
            name = format!("{name}.{}", self.word()?);
        }
        Ok(name.to_lowercase())
    }

    pub(super) fn reset(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::RESET).map_err(from_parser)?;
        let mut name = self.setting_name()?;
        match name.as_str() {
            "all" => return Ok(Statement::Reset(None)),
            "time" => {
                self.parser.expect_keyword(Keyword::ZONE).map_err(from_parser)?;
                "timezone".clone_into(&mut name);
            }
            "session" => {
                self.parser.expect_keyword(Keyword::AUTHORIZATION).map_err(from_parser)?;
                "session_authorization".clone_into(&mut name);
            }
            _ => {}
        }
        Ok(Statement::Reset(Some(name)))
    }

    pub(super) fn prepare(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::PREPARE).map_err(from_parser)?;
        let name = fold(&self.parser.parse_identifier().map_err(from_parser)?);
        let mut types = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            types =
                self.parser.parse_comma_separated(|parser| parser.parse_data_type()).map_err(from_parser)?;
            self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        }
        self.parser.expect_keyword(Keyword::AS).map_err(from_parser)?;
        let from = offset(self.sql, self.parser.peek_token().span.start);
        let statement = self.start()?;
        let end = offset(self.sql, self.parser.get_current_token().span.end);
        let text = self.sql.get(from..end.max(from)).unwrap_or_default().into();
        Ok(Statement::Prepare { name, types, statement: Box::new(Parsed { text, statement }) })
    }

    pub(super) fn execute(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::EXECUTE).map_err(from_parser)?;
        let name = fold(&self.parser.parse_identifier().map_err(from_parser)?);
        let mut parameters = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            parameters =
                self.parser.parse_comma_separated(|parser| parser.parse_expr()).map_err(from_parser)?;
            self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        }
        Ok(Statement::Execute { name, parameters })
    }

    pub(super) fn deallocate(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::DEALLOCATE).map_err(from_parser)?;
        self.skip(Keyword::PREPARE);
        if self.parser.parse_keyword(Keyword::ALL) {
            return Ok(Statement::Deallocate(None));
        }
        let name = fold(&self.parser.parse_identifier().map_err(from_parser)?);
        Ok(Statement::Deallocate(Some(name)))
    }

    pub(super) fn discard(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::DISCARD).map_err(from_parser)?;
        match self.word()?.as_str() {
            "plans" => Ok(Statement::Discard(Discard::Plans)),
            "sequences" => Ok(Statement::Discard(Discard::Sequences)),
            "temp" | "temporary" => Ok(Statement::Discard(Discard::Temp)),
            "all" => Ok(Statement::Discard(Discard::All)),
            _ => Err(self.unexpected("ALL, PLANS, SEQUENCES or TEMP")),
        }
    }

    /// `CALL system.runtime.kill_query('id')`, with the argument's name or without.
    pub(super) fn call(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::CALL).map_err(from_parser)?;
        let name = self.parser.parse_object_name(false).map_err(from_parser)?.to_string().to_lowercase();
        if name != "system.runtime.kill_query" {
            return Err(Error::FunctionNotFound(format!("procedure {name} does not exist")));
        }
        self.parser.expect_token(&Token::LParen).map_err(from_parser)?;
        if matches!(self.parser.peek_token().token, Token::Word(_)) {
            self.word()?;
            self.parser.expect_token(&Token::RArrow).map_err(from_parser)?;
        }
        let id = self.string()?;
        self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        Ok(Statement::KillQuery(id))
    }

    /// Presto's listings, and PostgreSQL's `SHOW setting`.
    pub(super) fn show(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::SHOW).map_err(from_parser)?;
        let name = self.setting_name()?;
        let show = match name.as_str() {
            "catalogs" => Show::Catalogs { like: self.like()? },
            "schemas" => {
                let catalog = if self.from() { Some(self.word()?) } else { None };
                Show::Schemas { catalog, like: self.like()? }
            }
            "tables" => {
                let from = match self.from() {
                    true => Some(schema_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?),
                    false => None,
                };
                Show::Tables { from, like: self.like()? }
            }
            "columns" => {
                if !self.from() {
                    return Err(self.unexpected("FROM"));
                }
                let table = self.parser.parse_object_name(false).map_err(from_parser)?;
                Show::Columns { table: name_of(&table)? }
            }
            "create" => {
                self.parser.expect_one_of_keywords(&[Keyword::TABLE, Keyword::VIEW]).map_err(from_parser)?;
                let table = self.parser.parse_object_name(false).map_err(from_parser)?;
                Show::CreateTable { table: name_of(&table)? }
            }
            "branches" => return Ok(Statement::Branch(Branch::Show)),
            "stats" => Show::Stats { query: self.stats_of()? },
            "functions" => Show::Functions { like: self.like()? },
            "all" => return Ok(Statement::ShowSetting(None)),
            "time" if self.parser.parse_keyword(Keyword::ZONE) => {
                return Ok(Statement::ShowSetting(Some("timezone".to_owned())));
            }
            "transaction" => {
                self.parser.expect_keywords(&[Keyword::ISOLATION, Keyword::LEVEL]).map_err(from_parser)?;
                return Ok(Statement::ShowSetting(Some("transaction_isolation".to_owned())));
            }
            _ => return Ok(Statement::ShowSetting(Some(name))),
        };
        Ok(Statement::Show(show))
    }

    /// `FOR table` or `FOR (query)`.
    fn stats_of(&mut self) -> Result<Box<ast::Query>> {
        self.parser.expect_keyword(Keyword::FOR).map_err(from_parser)?;
        if self.parser.consume_token(&Token::LParen) {
            let query = self.parser.parse_query().map_err(from_parser)?;
            self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
            return Ok(query);
        }
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        self.query_from_text(&format!("SELECT * FROM {name}"))
    }

    pub(super) fn describe(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.skip(Keyword::TABLE);
        let table = self.parser.parse_object_name(false).map_err(from_parser)?;
        Ok(Statement::Show(Show::Columns { table: name_of(&table)? }))
    }

    fn from(&mut self) -> bool {
        self.parser.parse_one_of_keywords(&[Keyword::FROM, Keyword::IN]).is_some()
    }

    fn like(&mut self) -> Result<Option<String>> {
        if !self.parser.parse_keyword(Keyword::LIKE) {
            return Ok(None);
        }
        Ok(Some(self.string()?))
    }
}
