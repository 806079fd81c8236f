//! `EXISTS (…)` in a SELECT list, correlated by more than columns that are equal.
//!
//! It becomes a count, which DataFusion joins only on columns of the subquery. So what an outer value is
//! compared with (`attnum = ANY (indkey)`, `attnum = indkey[0]`) is made a column of a subquery below.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins,
    Visit, Visitor,
};

use super::build::{call, conjuncts, folded, inner};
use super::scope::{factor_name, factors, system_table};
use super::subqueries::empty_query;
use crate::system;

/// A comparison of an outer value with something of the subquery.
struct Link {
    outer: Expr,
    /// What a row of the subquery has to compare: a value, or the elements of an array.
    own: Expr,
}

/// Moves what the subquery compares with outer values into columns; leaves alone what it cannot.
pub(super) fn link_by_columns(query: &mut Query, ctes: &[String]) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(selection) = select.selection.clone() else { return };
    let names = Names::of(select, ctes);
    let (mut links, mut own) = (vec![], vec![]);
    for condition in conjuncts(&selection) {
        match names.side(condition) {
            Side::Own | Side::Neither => own.push(condition.clone()),
            _ => match names.link(condition) {
                Some(link) => links.push(link),
                None => return,
            },
        }
    }
    if links.is_empty()
        || links.iter().all(|link| matches!(link.own, Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
    {
        return;
    }
    let name = |at: usize| Ident::with_quote('"', format!("link {at}"));
    let column =
        |(at, link): (usize, &Link)| SelectItem::ExprWithAlias { expr: link.own.clone(), alias: name(at) };
    let mut below = empty_query();
    if let SetExpr::Select(inner) = below.body.as_mut() {
        inner.projection = links.iter().enumerate().map(column).collect();
        inner.from = std::mem::take(&mut select.from);
        inner.selection = own.into_iter().reduce(and);
    }
    let alias = TableAlias { explicit: true, name: Ident::new("links"), columns: vec![], at: None };
    let relation = TableFactor::Derived { lateral: false, subquery: below, alias: Some(alias), sample: None };
    select.from = vec![TableWithJoins { relation, joins: vec![] }];
    let equal = links.into_iter().enumerate().map(|(at, link)| Expr::BinaryOp {
        left: Box::new(link.outer),
        op: BinaryOperator::Eq,
        right: Box::new(Expr::CompoundIdentifier(vec![Ident::new("links"), name(at)])),
    });
    select.selection = equal.reduce(and);
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

/// Where the columns of an expression come from.
#[derive(PartialEq)]
enum Side {
    Own,
    Outer,
    Both,
    Neither,
}

/// The names that belong to a SELECT itself.
struct Names {
    tables: HashSet<String>,
    /// All columns; none if that cannot be known.
    columns: Option<HashSet<String>>,
}

impl Names {
    fn of(select: &Select, ctes: &[String]) -> Self {
        let factors = factors(&select.from);
        let columns = factors.iter().map(|factor| {
            let table = system_table(factor, ctes)?;
            Some(system::columns("pg_catalog", &table)?.map(str::to_owned).collect::<Vec<_>>())
        });
        let columns = columns.collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect());
        Self { tables: factors.iter().filter_map(|factor| factor_name(factor)).collect(), columns }
    }

    fn side(&self, expr: &Expr) -> Side {
        let mut sides = Sides { names: self, own: false, outer: false };
        let _ = Visit::visit(expr, &mut sides);
        match (sides.own, sides.outer) {
            (true, false) => Side::Own,
            (false, true) => Side::Outer,
            (true, true) => Side::Both,
            (false, false) => Side::Neither,
        }
    }

    fn is_own(&self, qualifier: Option<&Ident>, column: &Ident) -> bool {
        match (qualifier, &self.columns) {
            (Some(qualifier), _) => self.tables.contains(&folded(qualifier)),
            (None, Some(columns)) => columns.contains(&folded(column)),
            (None, None) => true,
        }
    }

    fn link(&self, condition: &Expr) -> Option<Link> {
        match inner(condition) {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                let (outer, own) = match (self.side(left), self.side(right)) {
                    (Side::Outer, Side::Own) => (left, right),
                    (Side::Own, Side::Outer) => (right, left),
                    _ => return None,
                };
                Some(Link { outer: outer.as_ref().clone(), own: own.as_ref().clone() })
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. }
                if self.side(left) == Side::Outer && self.side(right) == Side::Own =>
            {
                let elements = call("unnest", vec![inner(right).clone()]);
                Some(Link { outer: left.as_ref().clone(), own: elements })
            }
            _ => None,
        }
    }
}

struct Sides<'a> {
    names: &'a Names,
    own: bool,
    outer: bool,
}

impl Visitor for Sides<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let own = match expr {
            Expr::Identifier(ident) => self.names.is_own(None, ident),
            Expr::CompoundIdentifier(idents) if idents.len() >= 2 => {
                self.names.is_own(idents.get(idents.len() - 2), &idents[idents.len() - 1])
            }
            _ => return ControlFlow::Continue(()),
        };
        self.own |= own;
        self.outer |= !own;
        ControlFlow::Continue(())
    }
}
