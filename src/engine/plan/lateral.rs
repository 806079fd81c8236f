//! LATERAL: items of FROM that use columns of those before them, as joins.
//!
//! DataFusion's optimizer joins such an item where its columns from outside only filter; anything else it
//! cannot run. Here the rows from outside go into the item itself: below its filters, limits, groups and
//! functions, each of which then works for one outer row at a time, because those rows' columns, or a number
//! that each gets, are among what it partitions and groups by.
//!
//! With an inner join the outer rows are read once and come out of the item beside its own columns. A left
//! join, and an aggregate that has a row even over nothing, need outer rows that the item has nothing for:
//! there the item is worked out for the distinct values that it uses, and joined with the outer rows.
//!
//! Source: Neumann and Kemper, "Unnesting Arbitrary Queries", 2015.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, ScalarValue, TableReference};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection, Sort, Subquery,
    SubqueryAlias, Unnest, Values, Window, WindowFunctionDefinition, lit,
};

use crate::error::Error;

/// Replaces every lateral item that the optimizer cannot join.
///
/// # Errors
/// [`Error::Unsupported`] for one whose outer columns stand where none can be put in.
pub(super) fn joined(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut number = 0;
    Ok(plan
        .transform_up(|plan| match plan {
            LogicalPlan::Join(join) => match item(&join.right) {
                Some((subquery, alias)) if !is_filtered_alone(&subquery.subquery) => {
                    number += 1;
                    let outer = Outer::new(number, &join, &subquery.subquery)?;
                    Ok(Transformed::yes(outer.join(&join, &subquery.subquery, alias)?))
                }
                _ => Ok(Transformed::no(LogicalPlan::Join(join))),
            },
            other => Ok(Transformed::no(other)),
        })?
        .data)
}

/// The lateral item on a join's right side, and what it is called.
fn item(plan: &LogicalPlan) -> Option<(&Subquery, Option<&TableReference>)> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some((subquery, None)),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery, Some(alias))),
            _ => None,
        },
        _ => None,
    }
}

/// Whether outer columns stand in filters alone, and nothing between them and the item's rows counts rows.
fn is_filtered_alone(plan: &LogicalPlan) -> bool {
    let mut fits = true;
    let walked = plan.apply(|node| {
        let uses_outer = node.expressions().iter().any(Expr::contains_outer);
        fits &= match node {
            LogicalPlan::Filter(filter) => equalities_alone(&filter.predicate),
            LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Subquery(_) => false,
            _ => !uses_outer,
        };
        Ok(if fits { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    fits && walked.is_ok()
}

/// Whether outer columns are only compared for equality in a condition.
fn equalities_alone(predicate: &Expr) -> bool {
    use datafusion::logical_expr::utils::split_conjunction;
    use datafusion::logical_expr::{BinaryExpr, Operator};
    let plain = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(..)) || !expr.contains_outer();
    split_conjunction(predicate).into_iter().all(|part| match part {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => plain(left) && plain(right),
        other => !other.contains_outer(),
    })
}

fn unsupported(what: &str) -> datafusion::error::DataFusionError {
    Error::Unsupported(format!("LATERAL: columns from outside in {what} are not supported")).into()
}

/// The rows from outside, as they go into the item.
struct Outer {
    number: usize,
    plan: LogicalPlan,
    /// The columns that they have there, and those of the left side that they are.
    columns: Vec<(Column, Column)>,
    /// Columns that tell one row from the others.
    key: Vec<Column>,
    /// Whether all rows go in, or the distinct values.
    whole: bool,
}

impl Outer {
    fn new(number: usize, join: &Join, item: &LogicalPlan) -> Result<Self> {
        let whole = join.join_type == JoinType::Inner && !has_lone_aggregate(item)?;
        let left = LogicalPlanBuilder::from(join.left.as_ref().clone());
        let schema = join.left.schema();
        let used = item.all_out_ref_exprs();
        let is_used = |column: &Column| {
            used.iter().any(|expr| matches!(expr, Expr::OuterReferenceColumn(_, used) if used == column))
        };
        let wanted = schema.columns().into_iter().filter(|column| whole || is_used(column));
        let columns: Vec<(Column, Column)> = wanted
            .enumerate()
            .map(|(at, column)| (Column::new_unqualified(format!("$outer {number} {at}")), column))
            .collect();
        let named = columns.iter().map(|(name, column)| Expr::Column(column.clone()).alias(&name.name));
        let named: Vec<Expr> = named.collect();
        if !whole {
            let key = columns.iter().map(|(name, _)| name.clone()).collect();
            let plan = left.project(named)?.distinct()?.build()?;
            return Ok(Self { number, plan, columns, key, whole });
        }
        let plan = left.project(named)?;
        let row = Column::new_unqualified(format!("$outer {number}"));
        let plan = plan.window([row_number(vec![], vec![]).alias(&row.name)])?.build()?;
        Ok(Self { number, plan, columns, key: vec![row], whole })
    }

    /// The join without a lateral item.
    fn join(&self, join: &Join, item: &LogicalPlan, alias: Option<&TableReference>) -> Result<LogicalPlan> {
        let inside = self.push(item)?;
        let own = |(qualifier, name): (Option<&TableReference>, &str)| {
            let column = Expr::Column(Column::new(qualifier.cloned(), name));
            column.alias_qualified(alias.or(qualifier).cloned(), name)
        };
        let fields = item.schema().iter().map(|(qualifier, field)| (qualifier, field.name().as_str()));
        if self.whole {
            let outer = self.columns.iter().map(|(name, column)| {
                let value = Expr::Column(name.clone());
                value.alias_qualified(column.relation.clone(), &column.name)
            });
            let projected = outer.chain(fields.map(own)).collect::<Vec<_>>();
            let plan = LogicalPlanBuilder::from(inside).project(projected)?;
            return match &join.filter {
                Some(filter) => plan.filter(filter.clone())?.build(),
                None => plan.build(),
            };
        }
        let outer = self.columns.iter().map(|(name, _)| Expr::Column(name.clone()));
        let right = LogicalPlanBuilder::from(inside).project(outer.chain(fields.map(own)))?.build()?;
        let (right_keys, left_keys): (Vec<Column>, Vec<Column>) = self.columns.iter().cloned().unzip();
        let plan = LogicalPlanBuilder::from(join.left.as_ref().clone()).join_detailed(
            right,
            join.join_type,
            (left_keys, right_keys),
            join.filter.clone(),
            NullEquality::NullEqualsNull,
        )?;
        plan.project(join.schema.columns().into_iter().map(Expr::Column))?.build()
    }

    /// The plan for each outer row: the columns of those, then the plan's own.
    fn push(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        if !plan.all_out_ref_exprs().iter().any(|expr| self.finds(expr)) {
            let alone = matches!(plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row);
            return match alone {
                true => Ok(self.plan.clone()),
                false => LogicalPlanBuilder::from(self.plan.clone()).cross_join(plan.clone())?.build(),
            };
        }
        match plan {
            LogicalPlan::Projection(Projection { expr, input, schema, .. }) => {
                self.project(self.push(input)?, expr, schema)
            }
            LogicalPlan::Filter(filter) => {
                let input = LogicalPlanBuilder::from(self.push(&filter.input)?);
                input.filter(self.replaced(&filter.predicate)?)?.build()
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, schema, .. }) => {
                let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
                self.project(self.push(input)?, &columns, schema)
            }
            LogicalPlan::Subquery(subquery) => self.push(&subquery.subquery),
            LogicalPlan::Sort(Sort { input, fetch: None, .. }) => self.push(input),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                LogicalPlanBuilder::from(self.push(input)?).distinct()?.build()
            }
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Join(join) => self.beside(join),
            LogicalPlan::Union(union) => {
                let mut inputs = union.inputs.iter().map(|input| self.push(input));
                let first = inputs.next().ok_or_else(|| unsupported("an empty UNION"))??;
                inputs.try_fold(first, |all, next| LogicalPlanBuilder::from(all).union(next?)?.build())
            }
            LogicalPlan::Unnest(Unnest { input, exec_columns, options, .. }) => {
                let input = LogicalPlanBuilder::from(self.push(input)?);
                input.unnest_columns_with_options(exec_columns.clone(), options.clone())?.build()
            }
            LogicalPlan::Values(values) => self.values(values),
            other => Err(unsupported(&other.display().to_string())),
        }
    }

    fn finds(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::OuterReferenceColumn(_, column) if self.name_of(column).is_some())
    }

    fn name_of(&self, column: &Column) -> Option<&Column> {
        self.columns.iter().find(|(_, own)| own == column).map(|(name, _)| name)
    }

    /// An expression with the outer columns as they are called inside.
    fn replaced(&self, expr: &Expr) -> Result<Expr> {
        let replaced = expr.clone().transform(|expr| match &expr {
            Expr::OuterReferenceColumn(_, column) => match self.name_of(column) {
                Some(name) => Ok(Transformed::yes(Expr::Column(name.clone()))),
                None => Ok(Transformed::no(expr)),
            },
            Expr::ScalarSubquery(inner)
            | Expr::Exists(datafusion::logical_expr::expr::Exists { subquery: inner, .. })
                if inner.outer_ref_columns.iter().any(|expr| self.finds(expr)) =>
            {
                Err(unsupported("a subquery of its own"))
            }
            _ => Ok(Transformed::no(expr)),
        });
        Ok(replaced?.data)
    }

    /// The columns of the outer rows, with the one that numbers them.
    fn outer_columns(&self) -> Vec<Expr> {
        self.plan.schema().columns().into_iter().map(Expr::Column).collect()
    }

    /// Projects expressions under the names of `schema`, beside the outer columns.
    fn project(&self, input: LogicalPlan, exprs: &[Expr], schema: &DFSchema) -> Result<LogicalPlan> {
        let mut all = self.outer_columns();
        for (expr, (qualifier, field)) in exprs.iter().zip(schema.iter()) {
            let expr = self.replaced(expr)?.unalias();
            all.push(expr.alias_qualified(qualifier.cloned(), field.name()));
        }
        LogicalPlanBuilder::from(input).project(all)?.build()
    }

    /// Counts the rows of each outer row in their order, and keeps the first.
    fn limit(&self, limit: &Limit) -> Result<LogicalPlan> {
        // An order by what is not returned stands below the projection.
        if let LogicalPlan::Projection(Projection { expr, input, schema, .. }) = limit.input.as_ref() {
            let below = Limit { input: Arc::clone(input), ..limit.clone() };
            return self.project(self.limit(&below)?, expr, schema);
        }
        use datafusion::logical_expr::{FetchType, SkipType};
        let SkipType::Literal(skip) = limit.get_skip_type()? else { return Err(unsupported("OFFSET")) };
        let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(unsupported("LIMIT")) };
        let (input, order) = match limit.input.as_ref() {
            LogicalPlan::Sort(Sort { input, expr, fetch: None }) => (input, expr.as_slice()),
            _ => (&limit.input, [].as_slice()),
        };
        let order = order.iter().map(|one| Ok(SortExpr { expr: self.replaced(&one.expr)?, ..one.clone() }));
        let key = self.key.iter().cloned().map(Expr::Column).collect();
        let name = format!("$row {}", self.number);
        let counted = row_number(key, order.collect::<Result<_>>()?).alias(&name);
        let counted = LogicalPlanBuilder::from(self.push(input)?).window([counted])?;
        let place = || Expr::Column(Column::new_unqualified(&name));
        let whole = |rows: usize| lit(ScalarValue::UInt64(Some(rows as u64)));
        let mut kept = place().gt(whole(skip));
        if let Some(fetch) = fetch {
            kept = kept.and(place().lt_eq(whole(skip.saturating_add(fetch))));
        }
        let columns: Vec<Expr> = limit.input.schema().columns().into_iter().map(Expr::Column).collect();
        self.project(counted.filter(kept)?.build()?, &columns, limit.input.schema())
    }

    /// Groups by the outer row too; without groups, every outer row has one, even over nothing.
    fn aggregate(&self, aggregate: &Aggregate) -> Result<LogicalPlan> {
        let mut groups = self.outer_columns();
        for group in &aggregate.group_expr {
            if matches!(group, Expr::GroupingSet(_)) {
                return Err(unsupported("GROUPING SETS"));
            }
            groups.push(self.replaced(group)?);
        }
        let aggregates: Vec<Expr> =
            aggregate.aggr_expr.iter().map(|expr| self.replaced(expr)).collect::<Result<_>>()?;
        let grouped = LogicalPlanBuilder::from(self.push(&aggregate.input)?).aggregate(groups, aggregates)?;
        let mut plan = grouped.build()?;
        let results = plan.schema().columns().into_iter().skip(self.plan.schema().fields().len());
        let mut results: Vec<Expr> = results.map(Expr::Column).collect();
        if aggregate.group_expr.is_empty() {
            let counts = aggregate.aggr_expr.iter().map(is_count);
            results = results.into_iter().zip(counts).map(zero_for_null).collect();
            plan = self.with_missing(plan)?;
        }
        self.project(plan, &results, &aggregate.schema)
    }

    /// Adds the outer rows that a plan has nothing for, with nulls.
    fn with_missing(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let again = |column: &Column| Column::new_unqualified(format!("{} again", column.name));
        let renamed = plan.schema().columns().into_iter().enumerate().map(|(at, column)| {
            let value = Expr::Column(column.clone());
            if at < self.key.len() { value.alias(again(&column).name) } else { value }
        });
        let renamed: Vec<Expr> = renamed.collect();
        let right = LogicalPlanBuilder::from(plan).project(renamed)?.build()?;
        let keys = (self.key.clone(), self.key.iter().map(again).collect::<Vec<_>>());
        LogicalPlanBuilder::from(self.plan.clone())
            .join_detailed(right, JoinType::Left, keys, None, NullEquality::NullEqualsNull)?
            .build()
    }

    fn window(&self, window: &Window) -> Result<LogicalPlan> {
        let key: Vec<Expr> = self.key.iter().cloned().map(Expr::Column).collect();
        let mut exprs = Vec::new();
        for expr in &window.window_expr {
            let Expr::WindowFunction(mut function) = self.replaced(expr)? else {
                return Err(unsupported("this window"));
            };
            function.params.partition_by.extend(key.clone());
            exprs.push(Expr::WindowFunction(function));
        }
        let input = self.push(&window.input)?;
        let own = window.input.schema().columns().into_iter().map(Expr::Column);
        let own: Vec<Expr> = own
            .chain(exprs.iter().map(|expr| Expr::Column(Column::from_name(expr.schema_name().to_string()))))
            .collect();
        let plan = LogicalPlanBuilder::from(input).window(exprs)?.build()?;
        self.project(plan, &own, &window.schema)
    }

    /// A join within the item, of which one side uses outer columns.
    fn beside(&self, join: &Join) -> Result<LogicalPlan> {
        let uses = |plan: &LogicalPlan| plan.all_out_ref_exprs().iter().any(|expr| self.finds(expr));
        let (on_left, on_right) = (uses(&join.left), uses(&join.right));
        let swapped = on_right && !on_left;
        if (on_right && on_left)
            || (join.join_type != JoinType::Inner && (swapped || join.join_type != JoinType::Left))
        {
            return Err(unsupported("both sides of a join"));
        }
        let filter = join.filter.as_ref().map(|filter| self.replaced(filter)).transpose()?;
        let on: Vec<Expr> = join.on.iter().map(|(a, b)| a.clone().eq(b.clone())).chain(filter).collect();
        let (first, second) = if swapped { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let plan = LogicalPlanBuilder::from(self.push(first)?)
            .join_on(second.as_ref().clone(), join.join_type, on)?
            .build()?;
        let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
        self.project(plan, &columns, &join.schema)
    }

    fn values(&self, values: &Values) -> Result<LogicalPlan> {
        let mut rows = values.values.iter().map(|row| self.project(self.plan.clone(), row, &values.schema));
        let first = rows.next().ok_or_else(|| unsupported("VALUES without rows"))??;
        rows.try_fold(first, |all, next| LogicalPlanBuilder::from(all).union(next?)?.build())
    }
}

fn row_number(partition_by: Vec<Expr>, order_by: Vec<SortExpr>) -> Expr {
    let function = WindowFunctionDefinition::WindowUDF(row_number_udwf());
    let mut function = WindowFunction::new(function, vec![]);
    function.params.partition_by = partition_by;
    function.params.window_frame =
        datafusion::logical_expr::WindowFrame::new((!order_by.is_empty()).then_some(false));
    function.params.order_by = order_by;
    Expr::from(function)
}

/// Whether a plan aggregates without groups: then it has a row for every outer one.
fn has_lone_aggregate(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty()))
    })
}

fn is_count(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(function) if function.func.name() == "count")
}

/// Over nothing, a count is 0.
fn zero_for_null((value, is_count): (Expr, bool)) -> Expr {
    use datafusion::functions::core::expr_fn::coalesce;
    if is_count { coalesce(vec![value, lit(0_i64)]) } else { value }
}
