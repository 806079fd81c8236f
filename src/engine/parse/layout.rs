//! The layout of a table: by what it is partitioned, and properties, as Iceberg's engines spell them.
//!
//! `SET PARTITIONED BY (…)` says it all at once, as `SET PROPERTIES partitioning = ARRAY[…]` does in Trino;
//! `ADD`, `DROP` and `REPLACE PARTITION FIELD` are Spark's. Properties are `SET ("name" = value)`, as storage
//! parameters are in PostgreSQL, or Trino's `SET PROPERTIES`, or Spark's `SET TBLPROPERTIES (…)`.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{AlterAction, NamedPartition, PartitionExpr, Repartition};
use super::{Source, fold, from_parser};
use crate::error::{Error, Result};

impl Source<'_> {
    /// Passes over `PARTITION FIELD`; a column may be called `partition`.
    pub(super) fn partition_field(&mut self) -> bool {
        let is_field = matches!(&self.parser.peek_nth_token(1).token, Token::Word(word) if word.value.eq_ignore_ascii_case("field"));
        if !is_field || !self.parser.parse_keyword(Keyword::PARTITION) {
            return false;
        }
        self.parser.next_token();
        true
    }

    pub(super) fn added_partition(&mut self) -> Result<Repartition> {
        Ok(Repartition::Add(self.named_partition()?))
    }

    /// `old WITH new [AS name]`.
    pub(super) fn replaced_partition(&mut self) -> Result<Repartition> {
        let from = self.partition()?;
        self.parser.expect_keyword(Keyword::WITH).map_err(from_parser)?;
        Ok(Repartition::Replace(from, self.named_partition()?))
    }

    fn named_partition(&mut self) -> Result<NamedPartition> {
        let expr = self.partition()?;
        let name = match self.parser.parse_keyword(Keyword::AS) {
            true => Some(fold(&self.parser.parse_identifier().map_err(from_parser)?)),
            false => None,
        };
        Ok(NamedPartition { expr, name })
    }

    /// What `SET`, `RESET` or `UNSET` does to a table as a whole.
    pub(super) fn set_of_table(&mut self, word: &str) -> Result<AlterAction> {
        if self.parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
            let by = if word == "set" { self.partitions()? } else { Vec::new() };
            return Ok(AlterAction::Repartition(Repartition::By(by)));
        }
        let is_trino = self.is_word("properties");
        if is_trino || self.is_word("tblproperties") {
            self.parser.next_token();
        }
        if is_trino && word == "set" {
            return self.trino_properties();
        }
        self.parser.expect_token(&Token::LParen).map_err(from_parser)?;
        let mut properties = Vec::new();
        loop {
            let name = self.property_name()?;
            let value = match word {
                "set" => {
                    self.parser.expect_token(&Token::Eq).map_err(from_parser)?;
                    Some(self.value()?)
                }
                _ => None,
            };
            properties.push((name, value));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        Ok(AlterAction::SetProperties(properties))
    }

    /// `name = value` or `name = DEFAULT`; `partitioning` goes alone.
    fn trino_properties(&mut self) -> Result<AlterAction> {
        let mut properties = Vec::new();
        loop {
            let name = self.property_name()?;
            self.parser.expect_token(&Token::Eq).map_err(from_parser)?;
            let is_default = self.parser.parse_keyword(Keyword::DEFAULT);
            if name == "partitioning" {
                let by = if is_default { Vec::new() } else { self.partitioning()? };
                let is_last = !matches!(self.parser.peek_token().token, Token::Comma);
                if !is_last || !properties.is_empty() {
                    let message = "the property partitioning is set by a statement of its own";
                    return Err(Error::Unsupported(message.to_owned()));
                }
                return Ok(AlterAction::Repartition(Repartition::By(by)));
            }
            properties.push((name, if is_default { None } else { Some(self.value()?) }));
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(AlterAction::SetProperties(properties));
            }
        }
    }

    /// `ARRAY['month(ts)', 'bucket(id, 16)']`.
    pub(super) fn partitioning(&mut self) -> Result<Vec<PartitionExpr>> {
        self.parser.expect_keyword(Keyword::ARRAY).map_err(from_parser)?;
        self.parser.expect_token(&Token::LBracket).map_err(from_parser)?;
        let mut partitions = Vec::new();
        while !self.parser.consume_token(&Token::RBracket) {
            if !partitions.is_empty() {
                self.parser.expect_token(&Token::Comma).map_err(from_parser)?;
            }
            let text = self.parser.parse_literal_string().map_err(from_parser)?;
            let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).map_err(from_parser)?;
            let mut source = Source { parser, sql: &text, written: None, depth: 0 };
            partitions.push(source.partition()?);
            if source.parser.peek_token().token != Token::EOF {
                return Err(Error::InvalidParameter(format!("\"{text}\" is not a partition")));
            }
        }
        Ok(partitions)
    }

    /// A property's name: quoted if it has periods or dashes.
    pub(super) fn property_name(&mut self) -> Result<String> {
        match self.parser.peek_token().token {
            Token::SingleQuotedString(name) => {
                self.parser.next_token();
                Ok(name)
            }
            _ => self.word(),
        }
    }
}
