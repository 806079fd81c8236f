//! The dialect: PostgreSQL's spellings, turned into what DataFusion's planner reads.
//!
//! [`rewrite`] changes how a statement is written, never what it means: a cast to `regclass` becomes
//! a function call, `ARRAY(SELECT …)` an aggregate, a column without a name gets the one that
//! PostgreSQL would give. What it does not know it leaves alone, for the planner to refuse.

mod build;
mod casts;
mod emptiness;
mod exists;
mod expressions;
mod functions;
mod merged;
mod names;
mod outer;
mod relations;
mod rowless;
mod rows;
mod scope;
mod subqueries;
mod unnest;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Query, Select, SetExpr, Statement, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::error::{Error, Result};

pub use build::change_outside_queries;
pub use casts::planned;
pub use names::display_name;

/// Rewrites a statement in place, before it is planned.
pub fn rewrite(statement: &mut Statement) {
    names::complete(statement);
    let ctes = scope::cte_names(statement);
    let _ = VisitMut::visit(statement, &mut Rewriter { ctes, scopes: vec![] });
}

/// Refuses what PostgreSQL refuses and the planner would take.
///
/// # Errors
/// [`Error::DuplicateAlias`](crate::error::Error::DuplicateAlias) for two items of one FROM under one name.
pub fn check(statement: &Statement) -> Result<()> {
    match Visit::visit(statement, &mut Checker) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Checker;

impl Visitor for Checker {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        match scope::duplicate(&select.from) {
            Some(name) => ControlFlow::Break(Error::DuplicateAlias(name)),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match rows::check(expr) {
            Err(error) => ControlFlow::Break(error),
            Ok(()) => ControlFlow::Continue(()),
        }
    }
}

/// Rewrites a query that is not a whole statement, such as the text of a view.
pub fn rewrite_query(query: &mut Query) {
    let mut statement = Statement::Query(Box::new(query.clone()));
    rewrite(&mut statement);
    if let Statement::Query(rewritten) = statement {
        *query = *rewritten;
    }
}

struct Rewriter {
    /// Names of WITH queries anywhere in the statement; they hide system tables.
    ctes: Vec<String>,
    /// What can be said of the SELECTs around the current place, the innermost last.
    scopes: Vec<scope::Scope>,
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        unnest::rewrite(select, &self.scopes);
        merged::rewrite(select);
        expressions::expand_series(select);
        expressions::integer_columns(select);
        subqueries::count_existing(select, &self.ctes);
        let scope = scope::Scope::of(select, &self.ctes, &self.scopes);
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        relations::fetch(query);
        if let SetExpr::Values(values) = query.body.as_mut() {
            expressions::integer_values(values);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        rowless::rewrite(factor);
        relations::rewrite(factor, &self.ctes);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        relations::system_column(expr, &self.scopes);
        rows::rewrite(expr);
        subqueries::rewrite(expr, &self.ctes, &self.scopes);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        expressions::rewrite(expr);
        functions::rewrite(expr);
        casts::rewrite(expr);
        ControlFlow::Continue(())
    }
}
