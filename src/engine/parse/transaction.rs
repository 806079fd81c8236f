//! Statements about transactions.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{Statement, TransactionModes};
use super::{Source, fold, from_parser};
use crate::error::{Error, Result};

impl Source<'_> {
    pub(super) fn begin(&mut self) -> Result<Statement> {
        let word =
            self.parser.expect_one_of_keywords(&[Keyword::BEGIN, Keyword::START]).map_err(from_parser)?;
        if word == Keyword::START {
            self.parser.expect_keyword(Keyword::TRANSACTION).map_err(from_parser)?;
        } else {
            self.skip_noise();
        }
        Ok(Statement::Begin(self.transaction_modes()?))
    }

    /// `COMMIT`, `END`: of the transaction, and whether the next one begins at once.
    pub(super) fn commit(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.skip_noise();
        Ok(Statement::Commit { chain: self.chain()? })
    }

    /// `ROLLBACK`, `ABORT`: of the transaction, or to a savepoint.
    pub(super) fn rollback(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.skip_noise();
        if self.parser.parse_keyword(Keyword::TO) {
            self.skip(Keyword::SAVEPOINT);
            return Ok(Statement::RollbackTo(self.savepoint_name()?));
        }
        Ok(Statement::Rollback { chain: self.chain()? })
    }

    pub(super) fn savepoint(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::SAVEPOINT).map_err(from_parser)?;
        Ok(Statement::Savepoint(self.savepoint_name()?))
    }

    pub(super) fn release(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::RELEASE).map_err(from_parser)?;
        self.skip(Keyword::SAVEPOINT);
        Ok(Statement::Release(self.savepoint_name()?))
    }

    pub(super) fn set_transaction(&mut self) -> Result<Statement> {
        if self.parser.parse_keyword(Keyword::SNAPSHOT) {
            return Err(Error::Unsupported("SET TRANSACTION SNAPSHOT is not supported".to_owned()));
        }
        Ok(Statement::SetTransaction(self.some_modes()?))
    }

    pub(super) fn set_characteristics(&mut self) -> Result<Statement> {
        self.parser.expect_keywords(&[Keyword::AS, Keyword::TRANSACTION]).map_err(from_parser)?;
        Ok(Statement::SetCharacteristics(self.some_modes()?))
    }

    fn skip_noise(&mut self) {
        if !self.parser.parse_keyword(Keyword::TRANSACTION) {
            self.skip(Keyword::WORK);
        }
    }

    fn chain(&mut self) -> Result<bool> {
        if !self.parser.parse_keyword(Keyword::AND) {
            return Ok(false);
        }
        let no = self.parser.parse_keyword(Keyword::NO);
        self.parser.expect_keyword(Keyword::CHAIN).map_err(from_parser)?;
        Ok(!no)
    }

    fn savepoint_name(&mut self) -> Result<String> {
        Ok(fold(&self.parser.parse_identifier().map_err(from_parser)?))
    }

    fn some_modes(&mut self) -> Result<TransactionModes> {
        let modes = self.transaction_modes()?;
        match modes == TransactionModes::default() {
            true => Err(self.unexpected("a transaction mode")),
            false => Ok(modes),
        }
    }

    /// Reads isolation and access modes, with commas between them or without.
    fn transaction_modes(&mut self) -> Result<TransactionModes> {
        let mut modes = TransactionModes::default();
        loop {
            if self.parser.parse_keyword(Keyword::ISOLATION) {
                self.parser.expect_keyword(Keyword::LEVEL).map_err(from_parser)?;
                modes.isolation = Some(self.isolation_level()?);
            } else if self.parser.parse_keyword(Keyword::READ) {
                let mode = self.parser.expect_one_of_keywords(&[Keyword::ONLY, Keyword::WRITE]);
                modes.read_only = Some(mode.map_err(from_parser)? == Keyword::ONLY);
            } else if self.parser.parse_keyword(Keyword::NOT) {
                self.parser.expect_keyword(Keyword::DEFERRABLE).map_err(from_parser)?;
                modes.deferrable = Some(false);
            } else if self.parser.parse_keyword(Keyword::DEFERRABLE) {
                modes.deferrable = Some(true);
            } else {
                return Ok(modes);
            }
            self.skip_token(&Token::Comma);
        }
    }

    fn isolation_level(&mut self) -> Result<&'static str> {
        let first = [Keyword::SERIALIZABLE, Keyword::REPEATABLE, Keyword::READ];
        match self.parser.parse_one_of_keywords(&first) {
            Some(Keyword::SERIALIZABLE) => Ok("serializable"),
            Some(Keyword::REPEATABLE) => {
                self.parser.expect_keyword(Keyword::READ).map_err(from_parser)?;
                Ok("repeatable read")
            }
            Some(_) => {
                let words = [Keyword::COMMITTED, Keyword::UNCOMMITTED];
                match self.parser.expect_one_of_keywords(&words).map_err(from_parser)? {
                    Keyword::COMMITTED => Ok("read committed"),
                    _ => Ok("read uncommitted"),
                }
            }
            None => Err(self.unexpected("an isolation level")),
        }
    }
}
