//! Whole rows: `row_to_json(t)`, where `t` is an item of FROM.
//!
//! The planner knows columns alone, so the row is spelled out as a struct of them. Which they are is known of
//! tables, of WITH queries and of subqueries that name their columns.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select,
    SelectItem, SetExpr, Statement, TableAlias, TableFactor, Value, VisitMut, VisitorMut,
};

use crate::engine::parse::{fold, name_of};

/// Functions that take a whole row.
const FUNCTIONS: [&str; 3] = ["to_json", "to_jsonb", "row_to_json"];

/// Spells out whole rows; `columns` are those of a table.
pub(super) fn spelled_out(
    statement: &mut Statement,
    columns: impl Fn(&TableReference) -> Option<Vec<String>>,
) {
    let _ = VisitMut::visit(statement, &mut Rows { columns, queries: HashMap::new(), scopes: Vec::new() });
}

type Columns = Vec<String>;

struct Rows<F> {
    columns: F,
    /// WITH queries by their names.
    queries: HashMap<String, Columns>,
    /// The items of the SELECTs around the current place, the innermost last.
    scopes: Vec<HashMap<String, Columns>>,
}

impl<F: Fn(&TableReference) -> Option<Columns>> Rows<F> {
    /// What an item of FROM is called, and its columns.
    fn item(&self, factor: &TableFactor) -> Option<(String, Columns)> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let full = name_of(name).ok()?;
                let columns = match (&full.schema, self.queries.get(&full.name)) {
                    (None, Some(columns)) => columns.clone(),
                    _ => {
                        let (schema, catalog) = (full.schema.clone(), full.catalog.clone());
                        let reference = match (catalog, schema) {
                            (Some(catalog), Some(schema)) => {
                                TableReference::full(catalog, schema, full.name.clone())
                            }
                            (_, Some(schema)) => TableReference::partial(schema, full.name.clone()),
                            _ => TableReference::bare(full.name.clone()),
                        };
                        (self.columns)(&reference)?
                    }
                };
                Some(named(alias.as_ref(), Some(full.name), columns)?)
            }
            TableFactor::Derived { subquery, alias, .. } => {
                named(alias.as_ref(), None, columns_of(subquery).unwrap_or_default())
            }
            TableFactor::UNNEST { alias, .. } => named(alias.as_ref(), None, Vec::new()),
            _ => None,
        }
    }
}

/// An item under its alias, whose own names of columns come first.
fn named(
    alias: Option<&TableAlias>,
    name: Option<String>,
    mut columns: Columns,
) -> Option<(String, Columns)> {
    let own = alias.map(|alias| alias.columns.iter().map(|column| fold(&column.name)).collect::<Vec<_>>());
    for (at, own) in own.unwrap_or_default().into_iter().enumerate() {
        match columns.get_mut(at) {
            Some(column) => *column = own,
            None => columns.push(own),
        }
    }
    let name = alias.map(|alias| fold(&alias.name)).or(name)?;
    (!columns.is_empty()).then_some((name, columns))
}

/// The names of a query's columns; none if it does not say.
fn columns_of(query: &Query) -> Option<Columns> {
    let mut body = query.body.as_ref();
    while let SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let SetExpr::Select(select) = body else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(fold(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last().map(fold),
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

impl<F: Fn(&TableReference) -> Option<Columns>> VisitorMut for Rows<F> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = columns_of(&cte.query).unwrap_or_default();
            self.queries.extend(named(Some(&cte.alias), None, columns));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let joined = |item: &datafusion::sql::sqlparser::ast::TableWithJoins| {
            let joins = item.joins.iter().map(|join| self.item(&join.relation));
            std::iter::once(self.item(&item.relation)).chain(joins).flatten().collect::<Vec<_>>()
        };
        let items = select.from.iter().flat_map(joined).collect();
        self.scopes.push(items);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else {
            return ControlFlow::Continue(());
        };
        let is_asked = name_of(name).is_ok_and(|name| FUNCTIONS.contains(&name.name.as_str()));
        if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.first_mut()
            && is_asked
            && let Expr::Identifier(row) = &*argument
            && let Some(columns) = self.scopes.iter().rev().find_map(|scope| scope.get(&fold(row)))
            && !columns.contains(&fold(row))
        {
            *argument = struct_of(row, columns);
        }
        ControlFlow::Continue(())
    }
}

/// `named_struct('a', t.a, 'b', t.b)`.
fn struct_of(row: &Ident, columns: &[String]) -> Expr {
    let members = columns.iter().flat_map(|column| {
        let name = Expr::value(Value::SingleQuotedString(column.clone()));
        let value = Expr::CompoundIdentifier(vec![row.clone(), Ident::with_quote('"', column)]);
        [name, value]
    });
    let args = members.map(|one| FunctionArg::Unnamed(FunctionArgExpr::Expr(one))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("named_struct")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(datafusion::sql::sqlparser::ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
