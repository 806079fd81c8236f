//! `ASSERT`: a query whose rows must not be there, or a condition that must be true.
//!
//! A statement that fails fails its transaction, so what was built before it in the same block is never
//! seen. With `QUARANTINE INTO`, the rows that the query finds are moved into another table instead, in
//! the same transaction; that takes a query that reads one table and only filters it, so that it is known
//! which rows are to go.

use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{self, Query, SelectItem, SetExpr, TableFactor};

use super::alter::parsed;
use super::execute::{Outcome, Rows, Run};
use super::frugal::Frugal;
use super::parse;
use super::plan::Planner;
use super::session::{Session, done};
use super::statement::{Assert, Asserted, CreateTable, Insert, Modify, Name, RowAction, When, WhenClause};
use crate::catalog::temporary::OnCommit;
use crate::error::{Error, Result};
use crate::sink::shown_row;

/// Rows that an error shows.
const SAMPLE_ROWS: usize = 5;

impl Session {
    /// Runs an assertion that changes nothing.
    ///
    /// # Errors
    /// [`Error::AssertionFailed`], and what is wrong with the query.
    pub(super) async fn assert(&mut self, assert: &Assert, run: Run) -> Result<Outcome> {
        let message = || assert.message.clone().unwrap_or_else(|| "assertion failed".to_owned());
        let failed = match &assert.what {
            Asserted::NoRows(query) => self.bad_rows(query, run).await?.map(Some),
            Asserted::Condition(condition) => {
                let holds = self.holds(condition, run).await?;
                (!holds).then(|| assert.message.is_some().then(|| format!("Not true: {condition}")))
            }
        };
        match failed {
            None => Ok(done("ASSERT")),
            Some(rows) => Err(Error::AssertionFailed { message: message(), rows }),
        }
    }

    /// What is told of the rows that a query finds; none where it finds none.
    async fn bad_rows(&mut self, query: &Query, run: Run) -> Result<Option<String>> {
        let rows = self.asserted(query.clone(), run).await?;
        let schema = rows.schema.clone();
        refuse_truth_value(schema.fields().iter().map(|field| field.data_type()))?;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let names = format!("({})", names.join(", "));
        let mut wanted = SAMPLE_ROWS;
        let columns = rows.schema.clone();
        let mut stream = rows
            .start(move |batch| {
                let shown = (0..batch.num_rows().min(wanted)).map(|row| shown_row(&columns, &batch, row));
                let shown: Vec<String> = shown.collect::<Result<_>>()?;
                wanted -= shown.len();
                Ok((batch.num_rows(), shown))
            })
            .await?;
        let (mut count, mut sample) = (0, Vec::new());
        while let Some((rows, shown)) = stream.next().await? {
            count += rows;
            sample.extend(shown);
        }
        let plural = if count == 1 { "row" } else { "rows" };
        let such = if count > sample.len() { "such as " } else { "" };
        Ok((count > 0).then(|| format!("{count} {plural}, {such}{names} = {}", sample.join(", "))))
    }

    /// Whether a condition is true; null is not.
    async fn holds(&mut self, condition: &ast::Expr, run: Run) -> Result<bool> {
        let mut query = parsed("SELECT NULL AS assertion")?;
        if let SetExpr::Select(select) = query.body.as_mut()
            && let Some(SelectItem::ExprWithAlias { expr, .. }) = select.projection.first_mut()
        {
            *expr = condition.clone();
        }
        let rows = self.asserted(*query, run).await?;
        let found = rows.schema.field(0).data_type().clone();
        if !matches!(found, arrow::datatypes::DataType::Boolean | arrow::datatypes::DataType::Null) {
            return Err(Error::DatatypeMismatch(format!(
                "argument of ASSERT must be type boolean, not type {found}"
            )));
        }
        let mut stream = rows
            .start(|batch| {
                let truths = datafusion::common::cast::as_boolean_array(batch.column(0)).ok();
                Ok(truths.is_some_and(|truths| truths.true_count() == truths.len()))
            })
            .await?;
        let (mut holds, mut any) = (true, false);
        while let Some(batch) = stream.next().await? {
            (holds, any) = (holds && batch, true);
        }
        Ok(holds && any)
    }

    async fn asserted(&mut self, query: Query, run: Run) -> Result<Rows> {
        let planner = self.planner().await?;
        let context = self.task_context();
        let (plan, frugal) = run
            .plan(async move {
                let query = planner.query(query, &[]).await?;
                Ok((planner.physical(&query).await?, Frugal::new(planner, query)))
            })
            .await?;
        Ok(Rows::of_plan("ASSERT", plan, context, run).or_frugally(frugal))
    }

    /// Moves the rows that an assertion finds into the table that it names, which is made when it is not
    /// there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a query whose rows are not those of one table.
    pub(super) async fn quarantine(
        &mut self,
        planner: Planner,
        assert: &Assert,
        into: &Name,
        run: &Run,
    ) -> Result<Outcome> {
        let Asserted::NoRows(query) = &assert.what else {
            return Err(Error::Unsupported("only the rows of a query can be set aside".to_owned()));
        };
        let source = source_of(query)?;
        let source_name = planner.find(&source.target).await?;
        let plan = planner.query(query.as_ref().clone(), &[]).await?;
        if plan.exists(|node| Ok(!keeps_rows(node)))? {
            return Err(only_filters());
        }
        let exists = planner.find(into).await;
        if exists.as_ref().is_ok_and(|full| *full == source_name) {
            let message = format!("rows of \"{source_name}\" cannot be set aside in itself");
            return Err(Error::InvalidDefinition(message));
        }
        let transaction = std::sync::Arc::clone(&planner.transaction);
        let outcome = match exists {
            Ok(_) => self.insert(planner, &insert_of(into, query), &[], run).await?.0,
            Err(_) => self.create_table(planner, &create_of(into, query), run).await?,
        };
        let moved = count_of(&outcome);
        if moved > 0 {
            let planner = self.planner_in(transaction).await?;
            let (deleted, _) = self.modify(planner, &source, &[], run).await?;
            if count_of(&deleted) != moved {
                return Err(Error::Cardinality(format!(
                    "the condition found {moved} rows, and then {}: it must find the same ones every time",
                    count_of(&deleted)
                )));
            }
        }
        Ok(Outcome::Done(format!("ASSERT {moved}")))
    }
}

/// A query of one truth value is most likely meant as a condition, which as a query of bad rows it is not.
fn refuse_truth_value<'a>(
    mut types: impl ExactSizeIterator<Item = &'a arrow::datatypes::DataType>,
) -> Result<()> {
    match types.len() == 1 && types.next() == Some(&arrow::datatypes::DataType::Boolean) {
        false => Ok(()),
        true => Err(Error::DatatypeMismatch(
            "ASSERT (query) fails where the query finds rows; for a truth value write ASSERT (query) = true"
                .to_owned(),
        )),
    }
}

/// Whether each row of a plan's node is one row of what it reads.
fn keeps_rows(node: &LogicalPlan) -> bool {
    use LogicalPlan::{Filter, Projection, Sort, SubqueryAlias, TableScan};
    matches!(node, Filter(_) | Projection(_) | Sort(_) | SubqueryAlias(_) | TableScan(_))
}

fn only_filters() -> Error {
    Error::Unsupported(
        "QUARANTINE takes rows of one table: SELECT … FROM table WHERE condition, without joins, groups or \
         limits"
            .to_owned(),
    )
}

/// The deletion of the rows that a query finds.
fn source_of(query: &Query) -> Result<Modify> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Err(only_filters()) };
    let ([from], None) = (select.from.as_slice(), &query.with) else { return Err(only_filters()) };
    let TableFactor::Table { name, alias, args: None, version: None, .. } = &from.relation else {
        return Err(only_filters());
    };
    if !from.joins.is_empty() || query.limit_clause.is_some() || query.fetch.is_some() {
        return Err(only_filters());
    }
    Ok(Modify {
        word: "DELETE",
        with: None,
        target: parse::name_of(name)?,
        alias: alias.as_ref().map(|alias| alias.name.clone()),
        using: Vec::new(),
        condition: select.selection.clone(),
        clauses: vec![WhenClause { when: When::Matched, condition: None, action: RowAction::Delete }],
        returning: None,
    })
}

fn insert_of(into: &Name, query: &Query) -> Insert {
    Insert {
        name: into.clone(),
        columns: Vec::new(),
        query: Some(Box::new(query.clone())),
        alias: None,
        conflict: None,
        returning: None,
        overwrite: false,
    }
}

fn create_of(into: &Name, query: &Query) -> CreateTable {
    CreateTable {
        name: into.clone(),
        or_replace: false,
        if_not_exists: false,
        columns: Vec::new(),
        constraints: Vec::new(),
        enforced: false,
        column_names: Vec::new(),
        partitioned_by: Vec::new(),
        properties: Default::default(),
        comment: None,
        query: Some(Box::new(query.clone())),
        materialized: None,
        with_data: true,
        temporary: false,
        on_commit: OnCommit::default(),
    }
}

/// The number of rows in a command's tag.
pub(super) fn count_of(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Done(tag) => tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0),
        Outcome::Rows(_) | Outcome::CopyIn(_) | Outcome::CopyOut(..) => 0,
    }
}
