//! From text to statements.
//!
//! Queries are parsed by `sqlparser` in PostgreSQL's dialect. What Lacus adds to the dialect
//! (partitions, Presto's `SHOW`, exports) and what it treats apart from PostgreSQL's long tail is
//! parsed here, on the same tokens. The text is cut into statements by their tokens, so that each
//! keeps the words it was written with.

mod alter;
mod assert;
mod branch;
mod chains;
mod copy;
mod create;
mod cursor;
mod explain;
mod layout;
mod modify;
mod restore;
mod session;
mod signal;
mod transaction;
mod upkeep;
mod version;

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
pub(super) use modify::assignments_of;

pub use version::Moment;

use super::statement::{CommentOn, Insert, Name, Parsed, RelationWord, Statement};
use crate::error::{Error, Result};

/// How deep expressions and subqueries may be nested.
const NESTING_MAX: usize = 160;

/// How many statements may stand within each other, as in EXPLAIN of EXPLAIN.
const STATEMENTS_NESTED_MAX: usize = 8;

/// Parses `sql` into its statements; none of them has run when one has an error.
///
/// # Errors
/// [`Error::Syntax`] with the position in `sql`, [`Error::Unsupported`], [`Error::LimitExceeded`].
pub fn parse(sql: &str) -> Result<Vec<Parsed>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| syntax(sql, &error.message, Some(error.location)))?;
    let mut statements = Vec::new();
    let tokens = signal::without_row_locks(tokens);
    for tokens in split(version::mark(sql, tokens).map_err(|error| locate(sql, error))?) {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { continue };
        let (from, to) = (offset(sql, first.span.start), offset(sql, last.span.end));
        let text = sql.get(from..to).unwrap_or(sql).trim();
        let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(NESTING_MAX);
        chains::check(&tokens)?;
        let parser = parser.with_tokens_with_locations(tokens);
        let mut source = Source { parser, sql, written: None, depth: 0 };
        let statement = source.statement().map_err(|error| locate(sql, error))?;
        statements.push(Parsed { text: text.into(), statement });
    }
    Ok(statements)
}

/// Cuts tokens at semicolons, leaving out white space around the pieces.
fn split(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut pieces = vec![Vec::new()];
    for token in tokens {
        match token.token {
            Token::SemiColon => pieces.push(Vec::new()),
            Token::EOF => {}
            Token::Whitespace(_) if pieces.last().is_some_and(Vec::is_empty) => {}
            _ => pieces.last_mut().expect("there is always a last piece").push(token),
        }
    }
    for piece in &mut pieces {
        while piece.last().is_some_and(|token| matches!(token.token, Token::Whitespace(_))) {
            piece.pop();
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The tokens of one statement.
struct Source<'a> {
    parser: Parser<'a>,
    sql: &'a str,
    /// The text of the query that was parsed last, where it is to be kept.
    written: Option<String>,
    /// Statements around the current one.
    depth: usize,
}

impl Source<'_> {
    fn statement(&mut self) -> Result<Statement> {
        let statement = self.start()?;
        match self.parser.peek_token().token {
            Token::EOF => Ok(statement),
            _ => Err(self.unexpected("the end of the statement")),
        }
    }

    fn start(&mut self) -> Result<Statement> {
        self.depth += 1;
        if self.depth > STATEMENTS_NESTED_MAX {
            let message = format!("statements are nested more than {STATEMENTS_NESTED_MAX} deep");
            return Err(Error::LimitExceeded(message));
        }
        let Token::Word(word) = self.parser.peek_token().token else { return self.standard() };
        match (word.keyword, word.value.to_lowercase().as_str()) {
            (Keyword::CREATE, _) => self.create(),
            (Keyword::EXPLAIN, _) => self.explain(),
            (Keyword::DESCRIBE | Keyword::DESC, _) => self.describe(),
            (Keyword::SHOW, _) => self.show(),
            (Keyword::SET, _) => self.set(),
            (Keyword::RESET, _) => self.reset(),
            (Keyword::BEGIN | Keyword::START, _) => self.begin(),
            (Keyword::COMMIT | Keyword::END, _) => self.commit(),
            (Keyword::ROLLBACK | Keyword::ABORT, _) => self.rollback(),
            (Keyword::SAVEPOINT, _) => self.savepoint(),
            (Keyword::RELEASE, _) => self.release(),
            (Keyword::COMMENT, _) => self.comment(),
            (Keyword::COPY, _) => self.copy(),
            (Keyword::PREPARE, _) => self.prepare(),
            (Keyword::EXECUTE, _) => self.execute(),
            (Keyword::DEALLOCATE, _) => self.deallocate(),
            (Keyword::DISCARD, _) => self.discard(),
            (Keyword::DECLARE, _) => self.declare(),
            (Keyword::FETCH, _) => self.fetch(false),
            (_, "move") => self.fetch(true),
            (Keyword::CLOSE, _) => self.close_cursor(),
            (_, "listen") => self.listen(),
            (_, "unlisten") => self.unlisten(),
            (_, "notify") => self.notify(),
            (Keyword::LOCK, _) => self.lock(),
            (_, "checkpoint") => self.checkpoint(),
            (Keyword::TABLE, _) => self.table(),
            (Keyword::ALTER, _) if self.is_restore() => self.restore(),
            (Keyword::ALTER, _) if self.is_execute() => self.alter_execute(),
            (Keyword::ALTER, _) => self.alter(),
            (Keyword::CALL, _) => self.call(),
            (Keyword::MERGE, _) if self.is_branch() => self.merge_branch(),
            (Keyword::DROP, _) if self.is_branch() => self.drop_branch(),
            (Keyword::MERGE, _) => self.merge(None),
            (Keyword::ASSERT, _) => self.assert(),
            (_, "undrop") => self.undrop(),
            (_, "refresh") => self.refresh(),
            (_, "vacuum") => self.vacuum(),
            (_, "optimize") => self.optimize(),
            (_, "analyze") => self.analyze(),
            _ => self.standard(),
        }
    }

    /// Everything that `sqlparser` knows as we want it.
    fn standard(&mut self) -> Result<Statement> {
        match self.parser.parse_statement().map_err(Error::from)? {
            ast::Statement::Query(query) => modify::with_of(*query),
            ast::Statement::Insert(insert) => insert_of(insert),
            ast::Statement::Update(update) => modify::update_of(update, None),
            ast::Statement::Delete(delete) => modify::delete_of(delete, None),
            ast::Statement::Truncate(truncate) => {
                let names = truncate.table_names.iter().map(|target| name_of(&target.name));
                Ok(Statement::Truncate {
                    names: names.collect::<Result<_>>()?,
                    if_exists: truncate.if_exists,
                })
            }
            ast::Statement::Drop { object_type, if_exists, names, cascade, .. } => {
                drop_of(object_type, &names, if_exists, cascade)
            }
            other => Err(unsupported(&other)),
        }
    }

    /// `TABLE name`, short for `SELECT * FROM name`.
    fn table(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::TABLE).map_err(Error::from)?;
        let name = self.parser.parse_object_name(false).map_err(Error::from)?;
        Ok(Statement::Query(self.query_from_text(&format!("SELECT * FROM {name}"))?))
    }

    fn query_from_text(&self, text: &str) -> Result<Box<ast::Query>> {
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).map_err(Error::from)?;
        parser.parse_query().map_err(Error::from)
    }

    fn comment(&mut self) -> Result<Statement> {
        self.parser.expect_keywords(&[Keyword::COMMENT, Keyword::ON]).map_err(Error::from)?;
        let mut kind = self.word()?;
        if kind == "materialized" {
            kind = self.word()?;
        }
        let name = self.parser.parse_object_name(false).map_err(Error::from)?;
        self.parser.expect_keyword(Keyword::IS).map_err(Error::from)?;
        let comment = match self.parser.parse_keyword(Keyword::NULL) {
            true => None,
            false => Some(self.string()?),
        };
        let on = match kind.as_str() {
            "table" | "view" => CommentOn::Relation(name_of(&name)?),
            "schema" => {
                let (catalog, schema) = schema_of(&name)?;
                CommentOn::Schema { catalog, schema }
            }
            "column" => {
                let mut parts = name.0;
                let column = parts.pop().as_ref().and_then(ObjectNamePart::as_ident).map(fold);
                let column = column.filter(|_| !parts.is_empty()).ok_or_else(|| Error::Syntax {
                    message: "COMMENT ON COLUMN needs table.column".to_owned(),
                    position: None,
                })?;
                CommentOn::Column { table: name_of(&ObjectName(parts))?, column }
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "COMMENT ON {} is not supported",
                    other.to_uppercase()
                )));
            }
        };
        Ok(Statement::Comment { on, comment })
    }

    /// Passes over a word that may stand here and says nothing.
    fn skip(&mut self, keyword: Keyword) {
        let _seen = self.parser.parse_keyword(keyword);
    }

    fn skip_token(&mut self, token: &Token) {
        let _seen = self.parser.consume_token(token);
    }

    /// A word, in lower case.
    fn word(&mut self) -> Result<String> {
        match self.parser.peek_token().token {
            Token::Word(word) => {
                self.parser.next_token();
                Ok(if word.quote_style.is_some() { word.value } else { word.value.to_lowercase() })
            }
            Token::Number(number, _) => {
                self.parser.next_token();
                Ok(number)
            }
            _ => Err(self.unexpected("a word")),
        }
    }

    /// A word, number or quoted text, as settings and options take them.
    fn value(&mut self) -> Result<String> {
        let negative = self.parser.consume_token(&Token::Minus);
        let value = match self.parser.peek_token().token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text,
            Token::Number(number, _) if negative => format!("-{number}"),
            Token::Number(number, _) => number,
            Token::Word(word) => word.value,
            _ => return Err(self.unexpected("a value")),
        };
        self.parser.next_token();
        Ok(value)
    }

    /// A quoted text, however it is quoted.
    fn string(&mut self) -> Result<String> {
        if let Token::DollarQuotedString(quoted) = self.parser.peek_token().token {
            self.parser.next_token();
            return Ok(quoted.value);
        }
        self.parser.parse_literal_string().map_err(Error::from)
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let found = self.parser.peek_token();
        let near = match &found.token {
            Token::EOF => "at end of input".to_owned(),
            token => format!("at or near \"{token}\""),
        };
        syntax(self.sql, &format!("syntax error {near}: expected {wanted}"), Some(found.span.start))
    }
}

fn insert_of(insert: ast::Insert) -> Result<Statement> {
    if !insert.assignments.is_empty() || insert.or.is_some() {
        return Err(Error::Unsupported("INSERT with SET or OR is not supported".to_owned()));
    }
    let conflict = match insert.on {
        None => None,
        Some(ast::OnInsert::OnConflict(conflict)) => Some(conflict),
        Some(other) => return Err(Error::Unsupported(format!("INSERT with{other} is not supported"))),
    };
    if conflict.is_some() && insert.overwrite {
        return Err(Error::Unsupported("INSERT OVERWRITE with ON CONFLICT is not supported".to_owned()));
    }
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::Unsupported("INSERT needs the name of a table".to_owned()));
    };
    let columns = insert.columns.iter().map(|column| Ok(name_of(column)?.name));
    Ok(Statement::Insert(Box::new(Insert {
        name: name_of(name)?,
        columns: columns.collect::<Result<_>>()?,
        query: insert.source,
        alias: insert.table_alias.map(|alias| alias.alias),
        conflict,
        returning: insert.returning,
        overwrite: insert.overwrite,
    })))
}

fn drop_of(kind: ast::ObjectType, names: &[ObjectName], if_exists: bool, cascade: bool) -> Result<Statement> {
    match kind {
        ast::ObjectType::Schema => {
            let names = names.iter().map(schema_of).collect::<Result<_>>()?;
            Ok(Statement::DropSchema { names, if_exists, cascade })
        }
        ast::ObjectType::Table | ast::ObjectType::View | ast::ObjectType::MaterializedView => {
            let word = match kind {
                ast::ObjectType::Table => RelationWord::Table,
                ast::ObjectType::View => RelationWord::View,
                _ => RelationWord::MaterializedView,
            };
            let names = names.iter().map(name_of).collect::<Result<_>>()?;
            Ok(Statement::Drop { kind: word, names, if_exists })
        }
        other => Err(Error::Unsupported(format!("DROP {other} is not supported"))),
    }
}

fn unsupported(statement: &ast::Statement) -> Error {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    Error::Unsupported(format!("{} is not supported yet", words.join(" ").to_uppercase()))
}

/// An identifier as PostgreSQL folds it.
pub fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// A relation's name of one to three parts.
pub fn name_of(name: &ObjectName) -> Result<Name> {
    let mut parts = parts_of(name)?;
    let too_long = || Error::Syntax {
        message: format!("improper qualified name (too many dotted names): {name}"),
        position: None,
    };
    let table = parts.pop().ok_or_else(too_long)?;
    let schema = parts.pop();
    let catalog = parts.pop();
    if parts.is_empty() { Ok(Name { catalog, schema, name: table }) } else { Err(too_long()) }
}

/// A schema's name of one or two parts.
fn schema_of(name: &ObjectName) -> Result<(Option<String>, String)> {
    let name = name_of(name)?;
    match name.catalog {
        None => Ok((name.schema, name.name)),
        Some(_) => Err(Error::Syntax { message: "improper schema name".to_owned(), position: None }),
    }
}

/// A relation's name in a text of its own, as functions take it.
///
/// # Errors
/// [`Error::Syntax`] for what is no name.
pub fn name_in(text: &str) -> Result<Name> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).map_err(Error::from)?;
    let name = parser.parse_object_name(false).map_err(Error::from)?;
    parser.expect_token(&Token::EOF).map_err(Error::from)?;
    name_of(&name)
}

fn parts_of(name: &ObjectName) -> Result<Vec<String>> {
    let part = |part: &ObjectNamePart| part.as_ident().map(fold);
    name.0
        .iter()
        .map(part)
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Syntax { message: format!("\"{name}\" is not a name"), position: None })
}

fn syntax(sql: &str, message: &str, at: Option<Location>) -> Error {
    let position = at.filter(|at| at.line > 0).map(|at| sql[..offset(sql, at)].chars().count() + 1);
    Error::Syntax { message: message.to_owned(), position }
}

/// Turns the line and column in a parser's message into a position, and its words into PostgreSQL's.
fn locate(sql: &str, error: Error) -> Error {
    let Error::Syntax { message, position: None } = error else { return error };
    let (text, place) = match message.rsplit_once(" at Line: ") {
        Some((text, place)) => (text, Some(place)),
        None => (message.as_str(), None),
    };
    let at = place.and_then(|place| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
    });
    let text = match text.rsplit_once(", found: ") {
        Some((wanted, "EOF")) => format!("syntax error at end of input: {wanted}"),
        Some((wanted, found)) => format!("syntax error at or near \"{found}\": {wanted}"),
        None => text.to_owned(),
    };
    let at = at.or_else(|| text.contains("at end of input").then(|| end_of(sql)));
    syntax(sql, &text, at)
}

fn end_of(sql: &str) -> Location {
    let line = sql.lines().count().max(1);
    let column = sql.lines().last().map_or(0, |last| last.chars().count()) + 1;
    Location { line: line as u64, column: column as u64 }
}

/// The byte offset of a line and column, both counted from 1, the column in characters.
fn offset(sql: &str, at: Location) -> usize {
    let mut start = 0;
    for _ in 1..at.line {
        start = sql[start..].find('\n').map_or(sql.len(), |end| start + end + 1);
    }
    let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
    sql[start..].char_indices().nth(column).map_or(sql.len(), |(index, _)| start + index)
}

/// Keeps the parser's error type at hand for the parts of this module.
pub(super) fn from_parser(error: ParserError) -> Error {
    error.into()
}

#[cfg(test)]
mod tests;
