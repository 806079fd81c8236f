//! `pg_proc`: the functions that a session can call, as DataFusion registers them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::{ReturnFieldArgs, Signature, TypeSignature};

use super::fixed::LANGUAGE_INTERNAL;
use super::listing::PG_CATALOG;
use super::rows::{Cell, Rows};
use super::source::{Context, Functions};
use crate::function::oid::{Assignment, OWNER};
use crate::function::support::{self, Support};
use crate::function::{ARRAY_OR_EMPTY, CatalogFacts, FIRST_TWO, FunctionName, ONLY_VALUE, types};

const ANY: i64 = 2276;

/// Overloads shown of one function: enough to see which kinds of value it takes.
const OVERLOADS_MAX: usize = 12;

/// What only the dialect calls.
const INTERNAL: [&str; 3] = [ARRAY_OR_EMPTY, FIRST_TWO, ONLY_VALUE];

/// One way to call a function: `f` scalar, `a` aggregate, `w` window, with the oids of its types.
struct Procedure {
    name: String,
    kind: char,
    arguments: Vec<i64>,
    variadic: bool,
    result: i64,
}

impl Procedure {
    fn argument_text(&self) -> String {
        let names: Vec<String> = self.arguments.iter().map(|&oid| types::format_type(oid, None)).collect();
        let names = names.join(", ");
        if self.variadic { format!("VARIADIC {names}") } else { names }
    }
}

pub(super) fn rows(context: &Context, rows: &mut Rows) {
    support::all().iter().for_each(|one| support_row(one, rows));
    for (oid, one) in numbered(&context.functions) {
        note_one(oid, &one, &context.facts);
        push(oid, &one, rows);
    }
}

/// Tells functions which functions there are.
pub(super) fn note(functions: &Functions, facts: &CatalogFacts) {
    numbered(functions).iter().for_each(|(oid, one)| note_one(*oid, one, facts));
}

fn note_one(oid: i64, one: &Procedure, facts: &CatalogFacts) {
    let (result, arguments) = (types::format_type(one.result, None), one.argument_text());
    facts.note_function(oid, FunctionName { name: one.name.clone(), result, arguments });
}

fn numbered(functions: &Functions) -> Vec<(i64, Procedure)> {
    let mut oids = Assignment::default();
    let all = procedures(functions).into_iter();
    all.map(|one| (oids.assign(&["function", &one.name, &one.argument_text()]), one)).collect()
}

fn support_row(one: &Support, rows: &mut Rows) {
    rows.push([
        ("oid", one.oid.into()),
        ("proname", one.name.into()),
        ("pronamespace", PG_CATALOG.into()),
        ("proowner", OWNER.into()),
        ("prolang", LANGUAGE_INTERNAL.into()),
        ("procost", 1.0.into()),
        ("prokind", 'f'.into()),
        ("proisstrict", one.strict.into()),
        ("provolatile", one.volatility.into()),
        ("proparallel", 's'.into()),
        ("pronargs", i64::try_from(one.arguments.len()).unwrap_or(i64::MAX).into()),
        ("prorettype", one.result.into()),
        ("proargtypes", Cell::Ints(one.arguments.clone())),
        ("prosrc", one.name.into()),
    ]);
}

fn push(oid: i64, one: &Procedure, rows: &mut Rows) {
    rows.push([
        ("oid", oid.into()),
        ("proname", (&one.name).into()),
        ("pronamespace", PG_CATALOG.into()),
        ("proowner", OWNER.into()),
        ("prolang", LANGUAGE_INTERNAL.into()),
        ("procost", 1.0.into()),
        ("provariadic", if one.variadic { ANY } else { 0 }.into()),
        ("prokind", one.kind.into()),
        ("provolatile", 's'.into()),
        ("proparallel", 's'.into()),
        ("pronargs", i64::try_from(one.arguments.len()).unwrap_or(i64::MAX).into()),
        ("prorettype", one.result.into()),
        ("proargtypes", Cell::Ints(one.arguments.clone())),
        ("prosrc", (&one.name).into()),
    ]);
}

/// Every function by name and arguments, in a fixed order.
fn procedures(functions: &Functions) -> Vec<Procedure> {
    let mut all: BTreeMap<(String, char, String), Procedure> = BTreeMap::new();
    let mut add =
        |name: &str, kind, signature: &Signature, result: &dyn Fn(&[DataType]) -> Option<DataType>| {
            if INTERNAL.contains(&name) {
                return;
            }
            for one in overloads(name, kind, signature, result) {
                all.entry((one.name.clone(), kind, one.argument_text())).or_insert(one);
            }
        };
    for one in &functions.scalar {
        add(one.name(), 'f', one.signature(), &|types| {
            let fields = fields(types);
            let none = vec![None; fields.len()];
            let args = ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &none };
            one.return_field_from_args(args).ok().map(|field| field.data_type().clone())
        });
    }
    for one in &functions.aggregate {
        add(one.name(), 'a', one.signature(), &|types| one.return_type(types).ok());
    }
    for one in &functions.window {
        add(one.name(), 'w', one.signature(), &|types| {
            one.field(datafusion::logical_expr::function::WindowUDFFieldArgs::new(&fields(types), one.name()))
                .ok()
                .map(|field| field.data_type().clone())
        });
    }
    all.into_values().collect()
}

fn fields(types: &[DataType]) -> Vec<FieldRef> {
    types.iter().map(|one| Arc::new(Field::new("", one.clone(), true))).collect()
}

fn overloads(
    name: &str,
    kind: char,
    signature: &Signature,
    result: &dyn Fn(&[DataType]) -> Option<DataType>,
) -> Vec<Procedure> {
    let procedure = |arguments: Vec<i64>, variadic, result| Procedure {
        name: name.to_owned(),
        kind,
        arguments,
        variadic,
        result,
    };
    if let Some(any) = any_arguments(&signature.type_signature) {
        return vec![procedure(vec![ANY; any.unwrap_or(1)], any.is_none(), ANY)];
    }
    let mut seen = BTreeSet::new();
    let mut found = vec![];
    for example in signature.type_signature.get_example_types() {
        let arguments: Vec<i64> = example.iter().map(|one| types::of_arrow(one).0).collect();
        if found.len() < OVERLOADS_MAX && seen.insert(arguments.clone()) {
            let result = result(&example).map_or(ANY, |one| types::of_arrow(&one).0);
            found.push(procedure(arguments, false, result));
        }
    }
    if found.is_empty() {
        found.push(procedure(vec![ANY], true, ANY));
    }
    found
}

/// For a function that looks at its arguments itself: how many it takes, or none if any number.
fn any_arguments(signature: &TypeSignature) -> Option<Option<usize>> {
    match signature {
        TypeSignature::Any(count) => Some(Some(*count)),
        TypeSignature::VariadicAny | TypeSignature::UserDefined => Some(None),
        _ => None,
    }
}
