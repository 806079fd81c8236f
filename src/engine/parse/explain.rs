//! EXPLAIN: its options, and what it can explain.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::Source;
use crate::engine::statement::{Explain, Explained, Statement};
use crate::error::{Error, Result};

/// What stands between EXPLAIN and its statement; none where it is not said.
#[derive(Default)]
struct Options {
    analyze: bool,
    verbose: bool,
    json: bool,
    costs: Option<bool>,
    timing: Option<bool>,
    summary: Option<bool>,
    wal: bool,
}

impl Options {
    fn ensure_analyze(&self) -> Result<()> {
        for (option, name) in [(self.timing == Some(true), "TIMING"), (self.wal, "WAL")] {
            if option && !self.analyze {
                return Err(Error::InvalidParameter(format!("EXPLAIN option {name} requires ANALYZE")));
            }
        }
        Ok(())
    }
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
        options.ensure_analyze()?;
        let Options { analyze, verbose, json, .. } = options;
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
        Ok(Statement::Explain(Explain {
            analyze,
            verbose,
            json,
            costs: options.costs.unwrap_or(true),
            timing: options.timing.unwrap_or(true),
            summary: options.summary.unwrap_or(analyze),
            what,
        }))
    }

    /// `ANALYZE`, `VERBOSE off`, `FORMAT json`.
    fn explain_option(&mut self, options: &mut Options) -> Result<()> {
        let option = self.word()?;
        let value = match self.parser.peek_token().token {
            Token::Comma | Token::RParen => None,
            _ => Some(self.word()?),
        };
        if option == "format" {
            options.json = is_json(value.as_deref().unwrap_or_default())?;
            return Ok(());
        }
        let on = switch(&option, value.as_deref())?;
        match option.as_str() {
            "analyze" => options.analyze = on,
            "verbose" => options.verbose = on,
            "costs" => options.costs = Some(on),
            "timing" => options.timing = Some(on),
            "summary" => options.summary = Some(on),
            "wal" => options.wal = on,
            // Nothing is kept in buffers of its own, and no setting changes a plan unseen.
            "buffers" | "settings" => {}
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

fn switch(option: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("on" | "true" | "1") => Ok(true),
        Some("off" | "false" | "0") => Ok(false),
        Some(_) => {
            let message = format!("{option} requires a Boolean value");
            Err(Error::Syntax { message, position: None })
        }
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
