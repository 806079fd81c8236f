//! EXPLAIN: its options, and what it can explain.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::Source;
use crate::engine::statement::{Explain, Explained, Statement};
use crate::error::{Error, Result};

/// What stands between EXPLAIN and its statement.
#[derive(Default)]
struct Options {
    analyze: bool,
    verbose: bool,
    json: bool,
}

impl Source<'_> {
    pub(super) fn explain(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::EXPLAIN).map_err(Error::from)?;
        let mut options = Options::default();
        if self.parser.consume_token(&Token::LParen) {
            loop {
                self.explain_option(&mut options)?;
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
        } else {
            options.analyze = self.parser.parse_keyword(Keyword::ANALYZE);
            options.verbose = self.parser.parse_keyword(Keyword::VERBOSE);
        }
        let Options { analyze, verbose, json } = options;
        let what = match self.start()? {
            Statement::Query(query) => Explained::Query(query),
            Statement::Modify(modify) if !analyze => Explained::Modify(modify),
            statement @ (Statement::Modify(_) | Statement::Insert(_)) if analyze => {
                Explained::Change(Box::new(statement))
            }
            Statement::CreateTable(create) if create.query.is_some() && analyze => {
                Explained::Change(Box::new(Statement::CreateTable(create)))
            }
            Statement::CreateTable(create) if create.query.is_some() && !analyze => {
                Explained::Query(create.query.expect("was just seen"))
            }
            Statement::Insert(insert) if insert.query.is_some() && !analyze => {
                Explained::Query(insert.query.expect("was just seen"))
            }
            other => return Err(Error::Unsupported(format!("EXPLAIN of {} is not supported", other.word()))),
        };
        Ok(Statement::Explain(Explain { analyze, verbose, json, what }))
    }

    /// `ANALYZE`, `VERBOSE off`, `FORMAT json`.
    fn explain_option(&mut self, options: &mut Options) -> Result<()> {
        let option = self.word()?;
        let value = match self.parser.peek_token().token {
            Token::Comma | Token::RParen => None,
            _ => Some(self.word()?),
        };
        let on = !matches!(value.as_deref(), Some("off" | "false" | "0"));
        match option.as_str() {
            "analyze" => options.analyze = on,
            "verbose" => options.verbose = on,
            "format" => options.json = is_json(value.as_deref().unwrap_or_default())?,
            "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" => {}
            other => {
                return Err(Error::Syntax {
                    message: format!("unrecognized EXPLAIN option \"{other}\""),
                    position: None,
                });
            }
        }
        Ok(())
    }
}

fn is_json(format: &str) -> Result<bool> {
    match format {
        "text" => Ok(false),
        "json" => Ok(true),
        "xml" | "yaml" => Err(Error::Unsupported(format!("EXPLAIN in the format {format} is not supported"))),
        other => Err(Error::InvalidParameter(format!(
            "unrecognized value for EXPLAIN option \"format\": \"{other}\""
        ))),
    }
}
