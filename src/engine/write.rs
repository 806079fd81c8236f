//! Writes: CREATE TABLE, INSERT and COPY TO. Rows become files, files become a change to a table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::col;
use datafusion::sql::sqlparser::ast;

use super::ddl::{note_skipped, refuse_system};
use super::dialect::display_name;
use super::execute::{Outcome, Run, note};
use super::frugal::Frugal;
use super::keys::Added;
use super::layout;
use super::materialized;
use super::plan::{Planner, bind, parameter_types, placeholder};
use super::returning::{Returned, Returning, written_rows};
use super::rules::{Declared, checked, default_exprs, defaults_of, guard_of};
use super::session::{Session, done};
use super::show::arrow_type;
use super::statement::{CreateTable, Insert, PartitionExpr};
use super::upsert::merge_of;
use crate::catalog::transaction::{NewTable, TableTarget};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::iceberg::{Change, Removal, Rules};
use crate::format::partition::PartitionField;
use crate::runtime::queries::Weight;
use crate::sink::{WriteOptions, guard_plan, run_write, write_plan};

impl Session {
    pub(super) async fn create_table(
        &mut self,
        planner: Planner,
        create: &CreateTable,
        run: &Run,
    ) -> Result<Outcome> {
        let full = match create.temporary {
            true => planner.temporary_target(&create.name)?,
            false => planner.target(&create.name).await?,
        };
        refuse_system(&full.schema)?;
        let transaction = Arc::clone(&planner.transaction);
        let tag = match (&create.materialized, &create.query) {
            (Some(_), _) => "CREATE MATERIALIZED VIEW",
            (None, Some(_)) => "CREATE TABLE AS",
            (None, None) => "CREATE TABLE",
        };
        let may_exist = create.if_not_exists && !create.or_replace;
        if may_exist && transaction.relation(&full.catalog, &full.schema, &full.name).await?.is_some() {
            let name = full.name.clone();
            note_skipped(&planner.facts, &Error::AlreadyExists { kind: "relation", name });
            return Ok(done(tag));
        }
        let mut declared = Declared::default();
        let (plan, planner, schema) = match &create.query {
            None => (None, planner, Arc::new(defined_schema(self.state(), create, &mut declared)?)),
            Some(query) => {
                let query = query.clone();
                let (planner, plan) = run
                    .plan(async move {
                        let plan = planner.query(*query, &[]).await?;
                        Ok((planner, plan))
                    })
                    .await?;
                let schema = query_schema(&plan, &create.column_names)?;
                (Some(plan), planner, schema)
            }
        };
        let partition = partitions(&create.partitioned_by, &schema)?;
        let (comment, on_commit) = (create.comment.clone(), create.on_commit);
        let properties = layout::properties(&create.properties)?;
        let materialized = materialized::record(&planner, plan.as_ref(), create)?;
        let table = NewTable { schema, partition, comment, properties, materialized, on_commit };
        let mut made =
            transaction.new_table(&full.catalog, &full.schema, &full.name, table, create.or_replace).await?;
        let mut rules = Rules::default();
        declared.add_to(&mut rules, &planner, &full.name, &made.columns).await?;
        made.rules = rules;
        let Some(plan) = plan.filter(|_| create.with_data) else {
            transaction.stage(made, None).await?;
            return Ok(done(tag));
        };
        let files = self.write(planner, plan, &made, run).await?;
        let rows: u64 = files.iter().map(|file| file.row_count).sum();
        transaction.stage(made, Some(Change::Append(files))).await?;
        Ok(Outcome::Done(format!("SELECT {rows}")))
    }

    pub(super) async fn insert(
        &mut self,
        planner: Planner,
        insert: &Insert,
        values: &[ScalarValue],
        run: &Run,
    ) -> Result<(Outcome, Option<Returned>)> {
        let full = planner.find(&insert.name).await?;
        let transaction = Arc::clone(&planner.transaction);
        let target = transaction.target(&full.catalog, &full.schema, &full.name).await?;
        if insert.conflict.is_some() {
            let merge = merge_of(insert, &target)?;
            let (done, returned) = self.modify(planner, &merge, values, run).await?;
            return Ok(as_insert(done, returned));
        }
        let (query, names, table) = (rows_of(insert, &target)?, insert.columns.clone(), target.clone());
        let given = values.to_vec();
        let (planner, plan) = run
            .plan(async move {
                let types: Vec<_> = given.iter().map(|value| Some(value.data_type())).collect();
                let plan = match query {
                    Some(query) => bind(planner.query(*query, &types).await?, &given)?,
                    None => LogicalPlanBuilder::empty(true).build()?,
                };
                let defaults = default_exprs(&planner, &table).await?;
                let plan = fitted(plan, &table.columns, &names, &defaults)?;
                let plan = checked(&planner, plan, &table).await?;
                Ok((planner, plan))
            })
            .await?;
        let files = self.write(planner, plan, &target, run).await?;
        let rows: u64 = files.iter().map(|file| file.row_count).sum();
        let add = files.clone();
        let change = match (insert.overwrite, target.partition.is_empty()) {
            (false, _) if files.is_empty() => None,
            (false, _) => Some(Change::Append(add)),
            (true, true) => Some(Change::Overwrite { add, remove: Removal::All }),
            (true, false) => Some(Change::Overwrite { add, remove: Removal::Partitions }),
        };
        if change.is_some() {
            let target = match insert.overwrite {
                true => self.clear_partitions(&transaction, target, &files, run).await?,
                false => target,
            };
            transaction.stage(target, change).await?;
            self.refuse_duplicate_keys(&transaction, &full, Added::Files(&files), run).await?;
        }
        let mut returned = None;
        if let Some(items) = &insert.returning {
            let returning = Returning::new(items, insert.alias.as_ref(), &insert.name.name);
            let planner = self.planner_in(Arc::clone(&transaction)).await?;
            let new = written_rows(&planner, &full, &files).await?;
            returned = Some(self.returned(planner, (returning, "INSERT"), new, values, run).await?);
        }
        Ok((Outcome::Done(format!("INSERT 0 {rows}")), returned))
    }

    /// Runs a plan into files of the target's table.
    pub(super) async fn write(
        &self,
        planner: Planner,
        plan: LogicalPlan,
        target: &TableTarget,
        run: &Run,
    ) -> Result<Vec<WrittenFile>> {
        run.runtime.queries.admit(&run.guard, Weight::Heavy).await?;
        let context = self.task_context();
        let (options, guard, plans) = (write_options(target, run), guard_of(target), run.plans.clone());
        run.on_cpu(async move {
            let input = planner.physical(&plan).await?;
            let write = |input, context| {
                let plan =
                    guard_plan(input, Arc::clone(&guard)).and_then(|plan| write_plan(plan, options.clone()));
                let plans = plans.clone();
                async move {
                    let plan = plan?;
                    note(plans.as_ref(), &plan);
                    run_write(plan, context).await
                }
            };
            Frugal::new(planner, plan).after_trying(input, context, write).await
        })
        .await
    }

    /// The types of an INSERT's parameters: those of the columns that they go into.
    pub(super) async fn insert_parameters(
        &mut self,
        insert: &Insert,
        declared: &[Option<DataType>],
        run: &Run,
    ) -> Result<Vec<DataType>> {
        let planner = self.planner().await?;
        let full = planner.find(&insert.name).await?;
        let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
        let query = rows_of(insert, &target)?;
        let indices = column_indices(&target.columns, &insert.columns)?;
        let mut types = declared.to_vec();
        if let Some(query) = &query
            && let ast::SetExpr::Values(values) = query.body.as_ref()
        {
            for row in &values.rows {
                for (expr, index) in row.content.iter().zip(&indices) {
                    if let Some(number) = placeholder(expr) {
                        types.resize(types.len().max(number), None);
                        let column = target.columns.field(*index).data_type();
                        types[number - 1].get_or_insert_with(|| column.clone());
                    }
                }
            }
        }
        if insert.conflict.is_some() {
            return self.modify_parameters(&merge_of(insert, &target)?, &types, run).await;
        }
        let Some(query) = query else { return Ok(Vec::new()) };
        run.plan(async move {
            let plan = planner.query(*query, &types).await?;
            parameter_types(&plan, &types)
        })
        .await
    }
}

/// What a MERGE answers, as the INSERT that it was.
fn as_insert(done: Outcome, returned: Option<Returned>) -> (Outcome, Option<Returned>) {
    let done = match done {
        Outcome::Done(tag) => Outcome::Done(tag.replacen("MERGE", "INSERT 0", 1)),
        rows => rows,
    };
    (done, returned.map(|returned| Returned { word: "INSERT", ..returned }))
}

/// How files of a table are written.
pub(super) fn write_options(target: &TableTarget, run: &Run) -> WriteOptions {
    let mut options =
        WriteOptions::new(target.location.clone(), target.data.clone(), Arc::clone(&target.columns));
    options.partition.clone_from(&target.partition);
    if let Some(bytes) = layout::target_file_bytes(&target.properties) {
        options.file_bytes_target = bytes;
        // A file ends with a row group, which must not be larger than the file should be.
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        options.row_group_bytes = options.row_group_bytes.min(bytes);
    }
    options.file_prefix.clone_from(&run.guard.id);
    options
}

/// The columns that a query's result has as a table.
fn query_schema(plan: &LogicalPlan, names: &[String]) -> Result<SchemaRef> {
    let fields = plan.schema().fields();
    if names.len() > fields.len() {
        return Err(Error::Syntax {
            message: "CREATE TABLE AS specifies too many column names".to_owned(),
            position: None,
        });
    }
    let named = |(index, field): (usize, &Arc<Field>)| {
        let name = names.get(index).map_or_else(|| display_name(field.name()), String::as_str);
        let plain = Field::new(name, field.data_type().clone(), true);
        match field.metadata().get("comment") {
            Some(comment) => plain.with_metadata([("comment".to_owned(), comment.clone())].into()),
            None => plain,
        }
    };
    let fields: Vec<Field> = fields.iter().enumerate().map(named).collect();
    refuse_duplicates(fields.iter().map(|field| field.name().as_str()))?;
    Ok(Arc::new(Schema::new(fields)))
}

/// # Errors
/// [`Error::AlreadyExists`] for a name that comes twice.
pub(super) fn refuse_duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::AlreadyExists { kind: "column", name: name.to_owned() });
        }
    }
    Ok(())
}

/// The columns that definitions make; what they declare beside types goes into `declared`.
fn defined_schema(
    state: &datafusion::execution::context::SessionState,
    create: &CreateTable,
    declared: &mut Declared,
) -> Result<Schema> {
    let mut fields = Vec::new();
    for column in &create.columns {
        let nullable = declared.column(column)?;
        let name = super::parse::fold(&column.name);
        fields.push(Field::new(name, arrow_type(state, &column.data_type)?, nullable));
    }
    create.constraints.iter().try_for_each(|constraint| declared.constraint(constraint))?;
    declared.keys.iter_mut().for_each(|key| key.enforced |= create.enforced);
    let not_null =
        |field: Field| if declared.is_key(field.name()) { field.with_nullable(false) } else { field };
    let fields: Vec<Field> = fields.into_iter().map(not_null).collect();
    refuse_duplicates(fields.iter().map(|field| field.name().as_str()))?;
    Ok(Schema::new(fields))
}

/// `PARTITIONED BY`, checked against the columns.
pub(super) fn partitions(written: &[PartitionExpr], schema: &Schema) -> Result<Vec<PartitionField>> {
    let field = |partition: &PartitionExpr| {
        let column = partition.column.as_str();
        let Some((_, found)) = schema.column_with_name(column) else {
            return Err(column_not_found(column, schema));
        };
        let field = partition.field()?;
        field.transform.result_type(found.data_type())?;
        Ok(field)
    };
    written.iter().map(field).collect()
}

pub(super) fn column_not_found(name: &str, columns: &Schema) -> Error {
    let known = columns.fields().iter().map(|field| field.name().as_str());
    Error::column_not_found(name, known)
}

/// Positions of the columns that an INSERT names; all of them when it names none.
pub(super) fn column_indices(columns: &Schema, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..columns.fields().len()).collect());
    }
    refuse_duplicates(names.iter().map(String::as_str))?;
    let index = |name: &String| {
        let found = columns.column_with_name(name).map(|(index, _)| index);
        found.ok_or_else(|| column_not_found(name, columns))
    };
    names.iter().map(index).collect()
}

/// The query that an INSERT takes its rows from, with the defaults that VALUES ask for; none where every
/// column has its default.
pub(super) fn rows_of(insert: &Insert, target: &TableTarget) -> Result<Option<Box<ast::Query>>> {
    let Some(mut query) = insert.query.clone() else { return Ok(None) };
    if let ast::SetExpr::Values(values) = query.body.as_mut() {
        let (indices, defaults) = (column_indices(&target.columns, &insert.columns)?, defaults_of(target)?);
        for row in &mut values.rows {
            for (value, index) in row.content.iter_mut().zip(&indices) {
                if is_default(value) {
                    let null = || ast::Expr::value(ast::Value::Null);
                    *value = defaults[*index].clone().unwrap_or_else(null);
                }
            }
        }
    }
    Ok(Some(query))
}

/// Whether the word `DEFAULT` stands in the place of a value.
pub(super) fn is_default(value: &ast::Expr) -> bool {
    matches!(value, ast::Expr::Identifier(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

/// Puts a query's columns where the table has them, cast to its types; the rest has its default, or is
/// null.
pub(super) fn fitted(
    plan: LogicalPlan,
    columns: &Schema,
    names: &[String],
    defaults: &[Option<Expr>],
) -> Result<LogicalPlan> {
    let indices = column_indices(columns, names)?;
    let given = plan.schema().columns();
    if given.len() > indices.len() || (given.len() < indices.len() && !names.is_empty()) {
        let more = if given.len() > indices.len() {
            "expressions than target columns"
        } else {
            "target columns than expressions"
        };
        return Err(Error::Syntax { message: format!("INSERT has more {more}"), position: None });
    }
    let mut exprs: Vec<Expr> = Vec::with_capacity(columns.fields().len());
    for (index, field) in columns.fields().iter().enumerate() {
        let source = indices.iter().position(|target| *target == index).and_then(|at| given.get(at));
        let expr = match source {
            Some(column) => col(column.clone()).cast_to(field.data_type(), plan.schema())?,
            None => match &defaults[index] {
                Some(default) => default.clone(),
                None => lit(ScalarValue::try_from(field.data_type())?),
            },
        };
        exprs.push(expr.alias(field.name()));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}
