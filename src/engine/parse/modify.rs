//! UPDATE, DELETE and MERGE: one form for all three.

use datafusion::sql::sqlparser::ast::{self, Ident, TableFactor, TableWithJoins};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Source, fold, name_of};
use crate::engine::statement::{Modify, Name, RowAction, Statement, When, WhenClause};
use crate::error::{Error, Result};

/// A query, or the statement that stands where a query's body would: `WITH x AS (…) UPDATE …`.
pub(super) fn with_of(mut query: ast::Query) -> Result<Statement> {
    use ast::{SetExpr, Statement as Parsed};
    let with = query.with.take();
    match *query.body {
        SetExpr::Update(Parsed::Update(update)) => update_of(update, with),
        SetExpr::Delete(Parsed::Delete(delete)) => delete_of(delete, with),
        SetExpr::Insert(Parsed::Insert(mut insert)) => {
            match insert.source.as_mut() {
                Some(source) if source.with.is_none() => source.with = with,
                _ => return Err(Error::Unsupported("WITH before and within INSERT".to_owned())),
            }
            super::insert_of(insert)
        }
        body => {
            query.with = with;
            query.body = Box::new(body);
            Ok(Statement::Query(Box::new(query)))
        }
    }
}

/// Makes the common form of an UPDATE.
pub(super) fn update_of(update: ast::Update, with: Option<ast::With>) -> Result<Statement> {
    if update.limit.is_some() || !update.order_by.is_empty() || update.or.is_some() {
        return Err(Error::Unsupported("UPDATE with ORDER BY, LIMIT or OR is not supported".to_owned()));
    }
    let (target, alias) = target_of(update.table)?;
    let using = match update.from {
        None => Vec::new(),
        Some(ast::UpdateTableFromKind::BeforeSet(from) | ast::UpdateTableFromKind::AfterSet(from)) => from,
    };
    let action = RowAction::Update(assignments_of(update.assignments)?);
    let clauses = matched(action);
    let (condition, returning) = (update.selection, update.returning);
    let word = "UPDATE";
    Ok(Statement::Modify(Box::new(Modify {
        word,
        with,
        target,
        alias,
        using,
        condition,
        clauses,
        returning,
    })))
}

/// Makes the common form of a DELETE.
pub(super) fn delete_of(delete: ast::Delete, with: Option<ast::With>) -> Result<Statement> {
    if delete.limit.is_some() || !delete.order_by.is_empty() || !delete.tables.is_empty() {
        return Err(Error::Unsupported("DELETE of several tables, with ORDER BY or LIMIT".to_owned()));
    }
    let (ast::FromTable::WithFromKeyword(mut from) | ast::FromTable::WithoutKeyword(mut from)) = delete.from;
    let (target, alias) = match (from.pop(), from.is_empty()) {
        (Some(target), true) => target_of(target)?,
        _ => return Err(Error::Unsupported("DELETE of several tables".to_owned())),
    };
    let using = delete.using.unwrap_or_default();
    let clauses = matched(RowAction::Delete);
    let (condition, returning) = (delete.selection, delete.returning);
    let word = "DELETE";
    Ok(Statement::Modify(Box::new(Modify {
        word,
        with,
        target,
        alias,
        using,
        condition,
        clauses,
        returning,
    })))
}

/// The one clause of a statement that does the same to every row that it finds.
fn matched(action: RowAction) -> Vec<WhenClause> {
    vec![WhenClause { when: When::Matched, condition: None, action }]
}

fn target_of(table: TableWithJoins) -> Result<(Name, Option<Ident>)> {
    if !table.joins.is_empty() {
        return Err(Error::Unsupported("a join cannot be changed; name one table".to_owned()));
    }
    target_factor(&table.relation)
}

fn target_factor(factor: &TableFactor) -> Result<(Name, Option<Ident>)> {
    match factor {
        TableFactor::Table { name, alias, args: None, .. } => {
            Ok((name_of(name)?, alias.as_ref().map(|alias| alias.name.clone())))
        }
        other => Err(Error::Unsupported(format!("{other} cannot be changed; name a table"))),
    }
}

pub(in crate::engine) fn assignments_of(
    assignments: Vec<ast::Assignment>,
) -> Result<Vec<(String, ast::Expr)>> {
    let mut all = Vec::with_capacity(assignments.len());
    for ast::Assignment { target, value } in assignments {
        match (target, value) {
            (ast::AssignmentTarget::ColumnName(column), value) => all.push((column_of(&column)?, value)),
            (ast::AssignmentTarget::Tuple(columns), ast::Expr::Tuple(values))
                if columns.len() == values.len() =>
            {
                for (column, value) in columns.iter().zip(values) {
                    all.push((column_of(column)?, value));
                }
            }
            (ast::AssignmentTarget::Tuple(_), _) => {
                let message = "several columns are set from as many values: (a, b) = (1, 2)".to_owned();
                return Err(Error::Unsupported(message));
            }
        }
    }
    Ok(all)
}

/// The column of an assignment; PostgreSQL allows no table before it.
fn column_of(name: &ast::ObjectName) -> Result<String> {
    let name = name_of(name)?;
    match name.schema {
        None => Ok(name.name),
        Some(_) => Err(Error::Unsupported(format!(
            "cannot set a part of a column: \"{name}\"; name the column alone"
        ))),
    }
}

impl Source<'_> {
    /// `MERGE INTO t [AS a] USING source ON condition WHEN …`; parsed here, because `sqlparser` does not
    /// know `DO NOTHING`.
    pub(super) fn merge(&mut self, with: Option<ast::With>) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::MERGE).map_err(Error::from)?;
        self.skip(Keyword::INTO);
        let factor = self.parser.parse_table_factor().map_err(Error::from)?;
        let (target, alias) = target_factor(&factor)?;
        self.parser.expect_keyword(Keyword::USING).map_err(Error::from)?;
        let relation = self.parser.parse_table_factor().map_err(Error::from)?;
        self.parser.expect_keyword(Keyword::ON).map_err(Error::from)?;
        let condition = Some(self.parser.parse_expr().map_err(Error::from)?);
        let mut clauses = Vec::new();
        while self.parser.parse_keyword(Keyword::WHEN) {
            clauses.push(self.when_clause()?);
        }
        if clauses.is_empty() {
            return Err(self.unexpected("WHEN"));
        }
        let returning = match self.parser.parse_keyword(Keyword::RETURNING) {
            true => {
                Some(self.parser.parse_comma_separated(|one| one.parse_select_item()).map_err(Error::from)?)
            }
            false => None,
        };
        let using = vec![TableWithJoins { relation, joins: Vec::new() }];
        Ok(Statement::Modify(Box::new(Modify {
            word: "MERGE",
            with,
            target,
            alias,
            using,
            condition,
            clauses,
            returning,
        })))
    }

    fn when_clause(&mut self) -> Result<WhenClause> {
        let not = self.parser.parse_keyword(Keyword::NOT);
        self.parser.expect_keyword(Keyword::MATCHED).map_err(Error::from)?;
        let by = if self.parser.parse_keyword(Keyword::BY) { Some(self.word()?) } else { None };
        let when = match (not, by.as_deref()) {
            (false, None) => When::Matched,
            (true, None | Some("target")) => When::NotMatched,
            (true, Some("source")) => When::NotMatchedBySource,
            _ => return Err(self.unexpected("NOT MATCHED BY SOURCE or BY TARGET")),
        };
        let condition = match self.parser.parse_keyword(Keyword::AND) {
            true => Some(self.parser.parse_expr().map_err(Error::from)?),
            false => None,
        };
        self.parser.expect_keyword(Keyword::THEN).map_err(Error::from)?;
        let action = self.row_action(when)?;
        Ok(WhenClause { when, condition, action })
    }

    fn row_action(&mut self, when: When) -> Result<RowAction> {
        let word = self.word()?;
        match (word.as_str(), when) {
            ("do", _) => match self.word()?.as_str() {
                "nothing" => Ok(RowAction::Nothing),
                _ => Err(self.unexpected("NOTHING")),
            },
            ("delete", When::Matched | When::NotMatchedBySource) => Ok(RowAction::Delete),
            ("update", When::Matched | When::NotMatchedBySource) => {
                self.parser.expect_keyword(Keyword::SET).map_err(Error::from)?;
                let assignments = self.parser.parse_comma_separated(|parser| parser.parse_assignment());
                Ok(RowAction::Update(assignments_of(assignments.map_err(Error::from)?)?))
            }
            ("insert", When::NotMatched) => self.merge_insert(),
            _ => Err(Error::Syntax {
                message: format!("syntax error at or near \"{word}\": it does not fit this WHEN"),
                position: None,
            }),
        }
    }

    fn merge_insert(&mut self) -> Result<RowAction> {
        let mut columns = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            let names = self.parser.parse_comma_separated(|parser| parser.parse_identifier());
            columns = names.map_err(Error::from)?.iter().map(fold).collect();
            self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
        }
        if self.parser.parse_keywords(&[Keyword::DEFAULT, Keyword::VALUES]) {
            return Ok(RowAction::Insert { columns, values: Vec::new() });
        }
        self.parser.expect_keyword(Keyword::VALUES).map_err(Error::from)?;
        self.parser.expect_token(&Token::LParen).map_err(Error::from)?;
        let values = self.parser.parse_comma_separated(|parser| parser.parse_expr()).map_err(Error::from)?;
        self.parser.expect_token(&Token::RParen).map_err(Error::from)?;
        Ok(RowAction::Insert { columns, values })
    }
}
