//! `ALTER TABLE` and `ALTER VIEW`: columns with places, and fields within them, as Iceberg has them.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{AlterAction, AlterTable, Name, RelationWord, Repartition, Statement};
use super::{Source, fold, from_parser, name_of, parts_of};
use crate::error::{Error, Result};
use crate::format::iceberg::Place;

impl Source<'_> {
    pub(super) fn alter(&mut self) -> Result<Statement> {
        let is = |ahead: usize, wanted: Keyword| matches!(&self.parser.peek_nth_token(ahead).token, Token::Word(word) if word.keyword == wanted);
        if !is(1, Keyword::TABLE) && !is(1, Keyword::VIEW) && !is(1, Keyword::MATERIALIZED) {
            return self.standard();
        }
        self.parser.expect_keyword(Keyword::ALTER).map_err(from_parser)?;
        let kind = if self.parser.parse_keywords(&[Keyword::MATERIALIZED, Keyword::VIEW]) {
            RelationWord::MaterializedView
        } else if self.parser.parse_keyword(Keyword::VIEW) {
            RelationWord::View
        } else {
            self.parser.expect_keyword(Keyword::TABLE).map_err(from_parser)?;
            RelationWord::Table
        };
        let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        self.skip(Keyword::ONLY);
        let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
        if self.parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]) {
            let to = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?.name;
            return Ok(Statement::Rename { from: name, to, if_exists, kind });
        }
        if self.parser.parse_keywords(&[Keyword::SET, Keyword::SCHEMA]) {
            let schema = fold(&self.parser.parse_identifier().map_err(from_parser)?);
            return Ok(Statement::SetSchema { name, schema, if_exists, kind });
        }
        match kind {
            RelationWord::Table => self.alter_table(name, if_exists),
            RelationWord::View | RelationWord::MaterializedView => {
                Err(self.unexpected("RENAME TO or SET SCHEMA"))
            }
        }
    }

    fn alter_table(&mut self, name: Name, if_exists: bool) -> Result<Statement> {
        let mut actions = Vec::new();
        loop {
            actions.push(self.alter_action()?);
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(Statement::Alter(Box::new(AlterTable { name, if_exists, actions })))
    }

    fn alter_action(&mut self) -> Result<AlterAction> {
        let word = self.word()?;
        match word.as_str() {
            "add" if self.partition_field() => Ok(AlterAction::Repartition(self.added_partition()?)),
            "drop" if self.partition_field() => {
                Ok(AlterAction::Repartition(Repartition::Drop(self.partition()?)))
            }
            "replace" if self.partition_field() => Ok(AlterAction::Repartition(self.replaced_partition()?)),
            "set" | "reset" | "unset" => self.set_of_table(&word),
            "add" => self.add_column(),
            "drop" if self.parser.parse_keyword(Keyword::CONSTRAINT) => {
                let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
                let name = fold(&self.parser.parse_identifier().map_err(from_parser)?);
                self.cascade();
                Ok(AlterAction::DropConstraint { name, if_exists })
            }
            "drop" => self.drop_column(),
            "rename" if self.parser.parse_keyword(Keyword::CONSTRAINT) => {
                let from = fold(&self.parser.parse_identifier().map_err(from_parser)?);
                self.parser.expect_keyword(Keyword::TO).map_err(from_parser)?;
                let to = fold(&self.parser.parse_identifier().map_err(from_parser)?);
                Ok(AlterAction::RenameConstraint { from, to })
            }
            "rename" => {
                self.skip(Keyword::COLUMN);
                let path = self.path()?;
                self.parser.expect_keyword(Keyword::TO).map_err(from_parser)?;
                let to = fold(&self.parser.parse_identifier().map_err(from_parser)?);
                Ok(AlterAction::RenameColumn { path, to })
            }
            "alter" => self.alter_column(),
            other => {
                Err(Error::Unsupported(format!("ALTER TABLE … {} is not supported", other.to_uppercase())))
            }
        }
    }

    fn add_column(&mut self) -> Result<AlterAction> {
        let words =
            [Keyword::CONSTRAINT, Keyword::CHECK, Keyword::PRIMARY, Keyword::UNIQUE, Keyword::FOREIGN];
        if self.parser.peek_one_of_keywords(&words).is_some() {
            let constraint = self.parser.parse_optional_table_constraint().map_err(from_parser)?;
            let constraint = constraint.ok_or_else(|| self.unexpected("a constraint"))?;
            return Ok(AlterAction::AddConstraint(constraint));
        }
        self.skip(Keyword::COLUMN);
        let if_not_exists = self.if_not_exists();
        let mut path = self.parser.parse_object_name(false).map_err(from_parser)?;
        let name = path.0.pop().and_then(|part| part.as_ident().cloned());
        let name = name.ok_or_else(|| self.unexpected("the name of a column"))?;
        let data_type = self.parser.parse_data_type().map_err(from_parser)?;
        let mut options = Vec::new();
        let place = loop {
            if let Some(place) = self.place()? {
                break Some(place);
            }
            let name = match self.parser.parse_keyword(Keyword::CONSTRAINT) {
                true => Some(self.parser.parse_identifier().map_err(from_parser)?),
                false => None,
            };
            match self.parser.parse_optional_column_option().map_err(from_parser)? {
                Some(option) => options.push(ast::ColumnOptionDef { name, option }),
                None if name.is_some() => return Err(self.unexpected("a constraint")),
                None => break None,
            }
        };
        let column = ast::ColumnDef { name, data_type, options };
        Ok(AlterAction::AddColumn { parent: parts_of(&path)?, column, if_not_exists, place })
    }

    fn drop_column(&mut self) -> Result<AlterAction> {
        self.skip(Keyword::COLUMN);
        let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let path = self.path()?;
        Ok(AlterAction::DropColumn { path, if_exists, cascade: self.cascade() })
    }

    fn cascade(&mut self) -> bool {
        let words = [Keyword::CASCADE, Keyword::RESTRICT];
        self.parser.parse_one_of_keywords(&words) == Some(Keyword::CASCADE)
    }

    fn alter_column(&mut self) -> Result<AlterAction> {
        self.skip(Keyword::COLUMN);
        let path = self.path()?;
        if let Some(place) = self.place()? {
            return Ok(AlterAction::Move { path, place });
        }
        let not_null = [Keyword::NOT, Keyword::NULL];
        let set_type = [Keyword::SET, Keyword::DATA, Keyword::TYPE];
        if self.parser.parse_keyword(Keyword::TYPE) || self.parser.parse_keywords(&set_type) {
            let data_type = self.parser.parse_data_type().map_err(from_parser)?;
            if self.parser.parse_keyword(Keyword::USING) {
                let message = "ALTER COLUMN … TYPE … USING is not supported: it would rewrite the table";
                return Err(Error::Unsupported(message.to_owned()));
            }
            return Ok(AlterAction::SetType { path, data_type });
        }
        if self.parser.parse_keyword(Keyword::DROP) {
            if self.parser.parse_keyword(Keyword::DEFAULT) {
                return Ok(AlterAction::SetDefault { column: top(&path)?, value: None });
            }
            self.parser.expect_keywords(&not_null).map_err(from_parser)?;
            return Ok(AlterAction::SetNotNull { path, not_null: false });
        }
        self.parser.expect_keyword(Keyword::SET).map_err(from_parser)?;
        if let Some(place) = self.place()? {
            return Ok(AlterAction::Move { path, place });
        }
        if self.parser.parse_keywords(&not_null) {
            return Ok(AlterAction::SetNotNull { path, not_null: true });
        }
        if self.parser.parse_keyword(Keyword::DEFAULT) {
            let value = Some(self.parser.parse_expr().map_err(from_parser)?);
            return Ok(AlterAction::SetDefault { column: top(&path)?, value });
        }
        Err(self.unexpected("TYPE, NOT NULL, DEFAULT, FIRST or AFTER"))
    }

    /// `FIRST`, or `AFTER` a column.
    fn place(&mut self) -> Result<Option<Place>> {
        if self.parser.parse_keyword(Keyword::FIRST) {
            return Ok(Some(Place::First));
        }
        if self.parser.parse_keyword(Keyword::AFTER) {
            let name = fold(&self.parser.parse_identifier().map_err(from_parser)?);
            return Ok(Some(Place::After(name)));
        }
        Ok(None)
    }

    /// A column, or a field within one: `a`, `a.b.c`.
    fn path(&mut self) -> Result<Vec<String>> {
        parts_of(&self.parser.parse_object_name(false).map_err(from_parser)?)
    }
}

/// The column that a path names, if it names no field within one.
fn top(path: &[String]) -> Result<String> {
    match path {
        [column] => Ok(column.clone()),
        _ => Err(Error::Unsupported("a field within a column has no default".to_owned())),
    }
}
