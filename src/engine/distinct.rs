//! Distinct aggregates as groups, where the other aggregates of the query allow it.
//!
//! DataFusion groups by a distinct column first and adds up the sums of those groups. The sum of integers is
//! a bigint, and that of bigints a numeric: added up again, a sum would have another type.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The optimizer's rules, with this one in its place.
pub(super) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own = DistinctGroups(SingleDistinctToGroupBy::new());
    let name = own.name().to_owned();
    let own: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(own);
    let rules = Optimizer::new().rules.into_iter();
    rules.map(|rule| if rule.name() == name { Arc::clone(&own) } else { rule }).collect()
}

#[derive(Debug)]
struct DistinctGroups(SingleDistinctToGroupBy);

impl OptimizerRule for DistinctGroups {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match adds_integers(&plan) {
            true => Ok(Transformed::no(plan)),
            false => self.0.rewrite(plan, config),
        }
    }
}

/// Whether a plan adds up integers, each as often as it comes.
fn adds_integers(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Aggregate(aggregate) = plan else { return false };
    let schema = aggregate.input.schema();
    aggregate.aggr_expr.iter().any(|expr| match expr {
        Expr::AggregateFunction(sum) if sum.func.name() == "sum" && !sum.params.distinct => {
            let types = sum.params.args.iter().map(|arg| arg.get_type(schema));
            types.flatten().any(|data_type| data_type.is_integer())
        }
        _ => false,
    })
}
