//! Prepared statements, the client's and those of PREPARE alike.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast;

use super::super::execute::{Outcome, Run};
use super::super::show;
use super::super::statement::{Parsed, Statement};
use super::Session;
use crate::error::{Error, Result};
use crate::function::StatementRow;
use crate::function::types::format_type;
use crate::value::types::pg_type_of;

/// A statement whose names were looked up once, to learn its parameters and its columns.
#[derive(Debug)]
pub struct Prepared {
    pub parsed: Parsed,
    pub parameters: Vec<DataType>,
    /// The types that the client declared, as it numbers them, or the statement's casts; 0 where neither
    /// says.
    pub declared_oids: Vec<u32>,
    /// The columns it answers; none for a command.
    pub schema: Option<SchemaRef>,
    /// A plan that reads nothing and always gives the same row.
    pub(super) constant: Option<Arc<dyn ExecutionPlan>>,
}

impl Session {
    pub(super) async fn execute_prepared(
        &mut self,
        name: &str,
        parameters: &[ast::Expr],
        run: Run,
    ) -> Result<Outcome> {
        let prepared = self.statement(name)?;
        // One may lead back to itself, by names that were given anew.
        if matches!(prepared.parsed.statement, Statement::Execute { .. }) {
            return Err(Error::Unsupported("EXECUTE of a prepared EXECUTE is not supported".to_owned()));
        }
        if parameters.len() != prepared.parameters.len() {
            let message = format!(
                "wrong number of parameters for prepared statement \"{name}\": expected {}, got {}",
                prepared.parameters.len(),
                parameters.len()
            );
            return Err(Error::Syntax { message, position: None });
        }
        let pairs = parameters.iter().zip(&prepared.parameters);
        let values =
            pairs.map(|(expr, ty)| show::constant(self.state(), expr, ty)).collect::<Result<Vec<_>>>()?;
        drop(run);
        self.run(&prepared, &values).await
    }

    /// Keeps a prepared statement under its name; `sql` is the PREPARE that made it, if one did.
    ///
    /// # Errors
    /// [`Error::DuplicateStatement`] for a name in use, [`Error::LimitExceeded`].
    pub fn store(&mut self, name: String, prepared: Prepared, sql: Option<&Arc<str>>) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Error::DuplicateStatement(name));
        }
        let limit = self.engine.config.statements_max;
        if self.statements.len() >= limit && !self.statements.contains_key(&name) {
            return Err(Error::LimitExceeded(format!("a session can hold {limit} prepared statements")));
        }
        if !name.is_empty() {
            let row = StatementRow {
                name: name.clone(),
                statement: Arc::clone(sql.unwrap_or(&prepared.parsed.text)),
                prepared: SystemTime::now(),
                parameter_types: prepared.parameters.iter().map(type_name).collect(),
                from_sql: sql.is_some(),
            };
            self.facts.list_statements(|rows| rows.push(row));
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// # Errors
    /// [`Error::StatementNotFound`].
    pub fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| Error::StatementNotFound(name.to_owned()))
    }

    /// Forgets a prepared statement; one that is not there is no error, as the protocol has it.
    pub fn close_statement(&mut self, name: &str) {
        if self.statements.remove(name).is_some() {
            self.facts.list_statements(|rows| rows.retain(|row| row.name != name));
        }
    }

    /// Forgets all prepared statements that have a name.
    pub(super) fn close_statements(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
        self.facts.list_statements(Vec::clear);
    }
}

fn type_name(data_type: &DataType) -> String {
    format_type(pg_type_of(data_type).oid.into(), None)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether every run of a plan gives the same rows: no clock, no settings, no chance in it.
pub(super) fn is_immutable(plan: &LogicalPlan) -> Result<bool> {
    let mut immutable = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                immutable &= match expr {
                    Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    // How a moment is read and printed depends on the session's zone and style.
                    Expr::Cast(cast) => {
                        !cast.field.data_type().is_temporal() && !is_text(cast.field.data_type())
                    }
                    _ => true,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(immutable)
}
