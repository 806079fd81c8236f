//! `CREATE BRANCH`, `DROP BRANCH`, `MERGE BRANCH`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{Branch, Statement};
use super::version::Moment;
use super::{Source, fold, from_parser};
use crate::catalog::branch::MAIN;
use crate::error::{Error, Result};

impl Source<'_> {
    /// Whether the second word is `BRANCH`, and a name follows.
    pub(super) fn is_branch(&self) -> bool {
        let is_word = |ahead: usize, wanted: &str| match &self.parser.peek_nth_token(ahead).token {
            Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
            _ => false,
        };
        // A MERGE can have a table of this name.
        is_word(1, "BRANCH") && !is_word(2, "USING") && !is_word(2, "AS") && !is_word(3, "USING")
    }

    /// Behind `CREATE BRANCH`: `[IF NOT EXISTS] name [FROM { VERSION n | TIMESTAMP ts | main }]`.
    pub(super) fn create_branch(&mut self) -> Result<Statement> {
        let if_not_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = self.branch_name()?;
        let mut from = None;
        if self.parser.parse_keyword(Keyword::FROM) {
            let words = [Keyword::VERSION, Keyword::TIMESTAMP];
            let word = self.parser.parse_one_of_keywords(&words);
            from = match word {
                Some(Keyword::VERSION) => {
                    Some(Moment::Version(self.parser.parse_expr().map_err(from_parser)?))
                }
                Some(_) => Some(Moment::Timestamp(self.parser.parse_expr().map_err(from_parser)?)),
                None => self.main()?,
            };
        }
        let from = from.map(Box::new);
        Ok(Statement::Branch(Branch::Create { name, if_not_exists, from }))
    }

    /// `DROP BRANCH [IF EXISTS] name`.
    pub(super) fn drop_branch(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.parser.next_token();
        let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        Ok(Statement::Branch(Branch::Drop { name: self.branch_name()?, if_exists }))
    }

    /// `MERGE BRANCH name [INTO main]`.
    pub(super) fn merge_branch(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.parser.next_token();
        let name = self.branch_name()?;
        if self.parser.parse_keyword(Keyword::INTO) {
            self.main()?;
        }
        Ok(Statement::Branch(Branch::Merge { name }))
    }

    /// `main`, from which branches grow and into which they are merged.
    fn main(&mut self) -> Result<Option<Moment>> {
        match self.branch_name()? {
            name if name == MAIN => Ok(None),
            name => Err(Error::Unsupported(format!(
                "branches grow from main and are merged into it, not \"{name}\""
            ))),
        }
    }

    fn branch_name(&mut self) -> Result<String> {
        Ok(fold(&self.parser.parse_identifier().map_err(from_parser)?))
    }
}
