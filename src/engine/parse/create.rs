//! `CREATE`: tables with Iceberg partitions, views that keep their text, schemas.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::statement::{CreateTable, CreateView, PartitionExpr, Statement};
use super::{Source, fold, from_parser, name_of, offset, schema_of};
use crate::catalog::temporary::OnCommit;
use crate::error::{Error, Result};

impl Source<'_> {
    pub(super) fn create(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::CREATE).map_err(from_parser)?;
        let or_replace = self.parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
        let mut word = self.word()?;
        if matches!(word.as_str(), "global" | "local") {
            word = self.word()?;
        }
        let temporary = matches!(word.as_str(), "temp" | "temporary");
        if temporary {
            word = self.word()?;
        }
        match word.as_str() {
            "table" => self.create_table(or_replace, temporary),
            "view" => self.create_view(or_replace, temporary),
            "materialized" if !temporary && !or_replace => self.create_materialized(),
            other if temporary => {
                Err(Error::Unsupported(format!("CREATE TEMPORARY {} is not supported", other.to_uppercase())))
            }
            "schema" => self.create_schema(),
            "index" => self.create_index(),
            "branch" => self.create_branch(),
            "external" => Err(Error::Unsupported(
                "CREATE EXTERNAL TABLE is not supported yet: declare the table in the catalog's folder"
                    .to_owned(),
            )),
            other => Err(Error::Unsupported(format!("CREATE {} is not supported", other.to_uppercase()))),
        }
    }

    /// `CREATE INDEX [name] ON table (columns)`.
    fn create_index(&mut self) -> Result<Statement> {
        let index = self.parser.parse_create_index(false).map_err(from_parser)?.into();
        let ast::Statement::CreateIndex(index) = index else { return Err(self.unexpected("an index")) };
        let column = |column: &ast::IndexColumn| match &column.column.expr {
            ast::Expr::Identifier(name) => Some(fold(name)),
            _ => None,
        };
        Ok(Statement::CreateIndex {
            name: index.name.as_ref().map(|name| name_of(name).map(|name| name.name)).transpose()?,
            table: name_of(&index.table_name)?,
            columns: index.columns.iter().filter_map(column).collect(),
        })
    }

    fn create_schema(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let (catalog, schema) = schema_of(&name)?;
        Ok(Statement::CreateSchema { catalog, schema, if_not_exists })
    }

    pub(super) fn if_not_exists(&mut self) -> bool {
        self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS])
    }

    fn create_table(&mut self, or_replace: bool, temporary: bool) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let mut create = CreateTable {
            name: name_of(&name)?,
            or_replace,
            if_not_exists,
            columns: Vec::new(),
            constraints: Vec::new(),
            enforced: false,
            properties: Vec::new(),
            column_names: Vec::new(),
            partitioned_by: Vec::new(),
            comment: None,
            query: None,
            with_data: true,
            materialized: None,
            temporary,
            on_commit: OnCommit::PreserveRows,
        };
        self.definition(&mut create)?;
        Ok(Statement::CreateTable(Box::new(create)))
    }

    /// `CREATE MATERIALIZED VIEW`: a table that keeps the query it was filled by.
    fn create_materialized(&mut self) -> Result<Statement> {
        self.parser.expect_keyword(Keyword::VIEW).map_err(from_parser)?;
        let Statement::CreateTable(mut create) = self.create_table(false, false)? else {
            return Err(self.unexpected("a query"));
        };
        if create.query.is_none() {
            return Err(self.unexpected("AS and a query"));
        }
        create.materialized = Some(self.written.take().unwrap_or_default());
        Ok(Statement::CreateTable(create))
    }

    /// `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH [NO] DATA]`.
    pub(super) fn refresh(&mut self) -> Result<Statement> {
        self.word()?;
        self.parser.expect_keywords(&[Keyword::MATERIALIZED, Keyword::VIEW]).map_err(from_parser)?;
        // Readers see the rows of before until the refresh commits, asked for or not.
        let concurrently = self.parser.parse_keyword(Keyword::CONCURRENTLY);
        let name = name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?;
        let with_data = self.says_data()?;
        if concurrently && !with_data {
            return Err(Error::Syntax {
                message: "REFRESH options CONCURRENTLY and WITH NO DATA cannot be used together".to_owned(),
                position: None,
            });
        }
        Ok(Statement::Refresh { name, with_data })
    }

    /// What follows a table's name.
    fn definition(&mut self, create: &mut CreateTable) -> Result<()> {
        if self.parser.peek_token().token == Token::LParen {
            self.columns(create)?;
        }
        loop {
            let partitioned =
                [Keyword::PARTITIONED, Keyword::PARTITION].into_iter().any(|k| self.parser.parse_keyword(k));
            if partitioned {
                self.parser.expect_keyword(Keyword::BY).map_err(from_parser)?;
                create.partitioned_by = self.partitions()?;
            } else if self.parser.parse_keyword(Keyword::COMMENT) {
                self.skip_token(&Token::Eq);
                create.comment = Some(self.string()?);
            } else if self.parser.parse_keywords(&[Keyword::ON, Keyword::COMMIT]) {
                create.on_commit = self.on_commit(create.temporary)?;
            } else if self.parser.parse_keyword(Keyword::WITH) {
                self.table_options(create)?;
            } else {
                break;
            }
        }
        if self.parser.parse_keyword(Keyword::AS) {
            let (query, sql) = self.query_as_written()?;
            create.query = Some(query);
            self.written = Some(sql);
            create.with_data = self.says_data()?;
        } else if create.columns.is_empty() {
            return Err(self.unexpected("a list of columns, or AS and a query"));
        }
        Ok(())
    }

    /// A query, and its text.
    fn query_as_written(&mut self) -> Result<(Box<ast::Query>, String)> {
        let from = offset(self.sql, self.parser.peek_token().span.start);
        let query = self.parser.parse_query().map_err(from_parser)?;
        let end = offset(self.sql, self.parser.get_current_token().span.end);
        let sql = self.sql.get(from..end.max(from)).unwrap_or_default().trim().to_owned();
        Ok((query, sql))
    }

    /// `WITH (enforced = true)`: the table's keys are. Other options are properties.
    fn table_options(&mut self, create: &mut CreateTable) -> Result<()> {
        self.parser.expect_token(&Token::LParen).map_err(from_parser)?;
        loop {
            let option = self.property_name()?;
            self.skip_token(&Token::Eq);
            if option == "partitioning" {
                create.partitioned_by = self.partitioning()?;
            } else {
                let value = self.value()?;
                match (option.as_str(), value.to_lowercase().as_str()) {
                    ("enforced", "true" | "on" | "1") => create.enforced = true,
                    ("enforced", "false" | "off" | "0") => create.enforced = false,
                    _ => create.properties.push((option, value)),
                }
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        Ok(())
    }

    fn on_commit(&mut self, temporary: bool) -> Result<OnCommit> {
        let words = [Keyword::PRESERVE, Keyword::DELETE, Keyword::DROP];
        let on_commit = match self.parser.expect_one_of_keywords(&words).map_err(from_parser)? {
            Keyword::DROP => OnCommit::Drop,
            word => {
                self.parser.expect_keyword(Keyword::ROWS).map_err(from_parser)?;
                if word == Keyword::DELETE { OnCommit::DeleteRows } else { OnCommit::PreserveRows }
            }
        };
        match temporary {
            true => Ok(on_commit),
            false => {
                Err(Error::InvalidDefinition("ON COMMIT can only be used on temporary tables".to_owned()))
            }
        }
    }

    /// Either definitions, or the names that a query's columns get.
    fn columns(&mut self, create: &mut CreateTable) -> Result<()> {
        let named = self.parser.try_parse(|parser| {
            parser.expect_token(&Token::LParen)?;
            let names = parser.parse_comma_separated(|parser| parser.parse_identifier())?;
            parser.expect_token(&Token::RParen)?;
            Ok(names)
        });
        if let Ok(names) = named {
            create.column_names = names.iter().map(fold).collect();
            return Ok(());
        }
        let (columns, constraints) = self.parser.parse_columns().map_err(from_parser)?;
        create.columns = columns;
        create.constraints = constraints;
        Ok(())
    }

    /// `WITH [NO] DATA`.
    fn says_data(&mut self) -> Result<bool> {
        if !self.parser.parse_keyword(Keyword::WITH) {
            return Ok(true);
        }
        let with_data = !self.parser.parse_keyword(Keyword::NO);
        self.parser.expect_keyword(Keyword::DATA).map_err(from_parser)?;
        Ok(with_data)
    }

    pub(super) fn partitions(&mut self) -> Result<Vec<PartitionExpr>> {
        self.parser.expect_token(&Token::LParen).map_err(from_parser)?;
        let mut partitions = Vec::new();
        if self.parser.consume_token(&Token::RParen) {
            return Ok(partitions);
        }
        loop {
            partitions.push(self.partition()?);
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        Ok(partitions)
    }

    pub(super) fn partition(&mut self) -> Result<PartitionExpr> {
        let first = fold(&self.parser.parse_identifier().map_err(from_parser)?);
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(PartitionExpr { function: None, argument: None, column: first });
        }
        let mut argument = None;
        let mut column = None;
        loop {
            match self.parser.peek_token().token {
                Token::Number(..) => {
                    let number = self.parser.parse_literal_uint().map_err(from_parser)?;
                    argument = Some(u32::try_from(number).map_err(|_| self.unexpected("a smaller number"))?);
                }
                _ => column = Some(fold(&self.parser.parse_identifier().map_err(from_parser)?)),
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        let column = column.ok_or_else(|| self.unexpected("the name of a column"))?;
        Ok(PartitionExpr { function: Some(first.to_lowercase()), argument, column })
    }

    fn create_view(&mut self, or_replace: bool, temporary: bool) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let mut columns = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            let names = self.parser.parse_comma_separated(|parser| parser.parse_identifier());
            columns = names.map_err(from_parser)?.iter().map(fold).collect();
            self.parser.expect_token(&Token::RParen).map_err(from_parser)?;
        }
        self.parser.expect_keyword(Keyword::AS).map_err(from_parser)?;
        let (query, sql) = self.query_as_written()?;
        let name = name_of(&name)?;
        Ok(Statement::CreateView(Box::new(CreateView {
            name,
            temporary,
            or_replace,
            if_not_exists,
            columns,
            query,
            sql,
        })))
    }
}
