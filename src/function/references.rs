//! References: values of type `regclass`, `regproc`, `regtype` and their like.
//!
//! Inside a statement a reference is the oid of what it names. The `reg…in` and `reg…out` functions are
//! what casts to and from these types become.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;

use super::catalog::{find_relation, name_parts, or_null, relation_text, role_name, with};
use super::row::{RowFunction, Values};
use super::text::quote_ident;
use super::{SessionFacts, oid, support, types};
use crate::error::Error;

/// Functions that need to know which functions there are.
pub const ABOUT_FUNCTIONS: [&str; 9] = [
    "pg_get_functiondef",
    "pg_get_function_result",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "regprocin",
    "regprocedurein",
    "to_regproc",
    "to_regprocedure",
    "regprocedureout",
];

type Lookup = fn(&SessionFacts, &str) -> Result<Option<i64>, Error>;
type Print = fn(&SessionFacts, i64) -> Option<String>;

/// One of the types, and how its values are read and printed.
struct Reference {
    name: &'static str,
    input: &'static str,
    output: &'static str,
    /// The function that gives null where the cast fails.
    lenient: &'static str,
    /// What is missing when there is no such thing.
    kind: &'static str,
    lookup: Lookup,
    print: Print,
}

const REFERENCES: [Reference; 7] = [
    Reference {
        name: "regclass",
        input: "regclassin",
        output: "regclassout",
        lenient: "to_regclass",
        kind: "relation",
        lookup: |session, name| {
            Ok(find_relation(session, &session.catalog(), name).map(|relation| relation.oid))
        },
        print: |session, oid| Some(relation_text(session, oid)),
    },
    Reference {
        name: "regtype",
        input: "regtypein",
        output: "regtypeout",
        lenient: "to_regtype",
        kind: "type",
        lookup: |_, name| Ok(types::oid_of(name)),
        print: |_, oid| Some(types::format_type(oid, None)),
    },
    Reference {
        name: "regnamespace",
        input: "regnamespacein",
        output: "regnamespaceout",
        lenient: "to_regnamespace",
        kind: "schema",
        lookup: |session, name| {
            let name = name_parts(name).pop().unwrap_or_default();
            Ok(session.catalog().namespace_named(&name).map(|namespace| namespace.oid))
        },
        print: |session, oid| session.catalog().namespace(oid).map(|one| quote_ident(&one.name)),
    },
    Reference {
        name: "regrole",
        input: "regrolein",
        output: "regroleout",
        lenient: "to_regrole",
        kind: "role",
        lookup: |session, name| {
            Ok([oid::OWNER_NAME, &session.user].into_iter().find(|role| *role == name).map(oid::of_role))
        },
        print: |session, oid| role_name(session, oid),
    },
    Reference {
        name: "regproc",
        input: "regprocin",
        output: "regprocout",
        lenient: "to_regproc",
        kind: "function",
        lookup: procedure,
        print: |session, oid| function_name(session, oid).map(|(name, _)| quote_ident(&name)),
    },
    Reference {
        name: "regprocedure",
        input: "regprocedurein",
        output: "regprocedureout",
        lenient: "to_regprocedure",
        kind: "function",
        lookup: procedure,
        print: |session, oid| {
            function_name(session, oid)
                .map(|(name, arguments)| format!("{}({arguments})", quote_ident(&name)))
        },
    },
    Reference {
        name: "regcollation",
        input: "regcollationin",
        output: "regcollationout",
        lenient: "to_regcollation",
        kind: "collation",
        lookup: |_, name| {
            let name = name_parts(name).pop().unwrap_or_default();
            Ok(COLLATIONS.into_iter().find(|(_, one)| *one == name).map(|(oid, _)| oid))
        },
        print: |_, oid| {
            COLLATIONS.into_iter().find(|(one, _)| *one == oid).map(|(_, name)| quote_ident(name))
        },
    },
];

/// The collations that there are.
const COLLATIONS: [(i64, &str); 3] = [(100, "default"), (950, "C"), (951, "POSIX")];

/// The function that prints a reference of a type; none for the name of another type.
pub fn reference_output(pg_type: &str, session: &Arc<SessionFacts>) -> Option<Arc<ScalarUDF>> {
    let reference = REFERENCES.iter().find(|one| one.name == pg_type)?;
    Some(output(reference, session).into_udf())
}

/// The function that reads a reference of a type; none for the name of another type.
pub fn reference_input(pg_type: &str, session: &Arc<SessionFacts>) -> Option<Arc<ScalarUDF>> {
    let reference = REFERENCES.iter().find(|one| one.name == pg_type)?;
    Some(input(reference, session).into_udf())
}

pub(super) fn functions(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let all = REFERENCES.iter().flat_map(|one| {
        let lookup = one.lookup;
        let lenient = with(session, one.lenient, 1..=1, DataType::Int64, move |session, values| {
            // Where several are meant, PostgreSQL gives null too.
            Ok(ScalarValue::Int64(read(session, values, lookup).unwrap_or_default()))
        });
        [input(one, session), output(one, session), lenient.typed(one.name)]
    });
    all.chain(operators(session)).collect()
}

fn input(reference: &'static Reference, session: &Arc<SessionFacts>) -> RowFunction {
    let (lookup, kind) = (reference.lookup, reference.kind);
    with(session, reference.input, 1..=1, DataType::Int64, move |session, values| {
        match read(session, values, lookup)? {
            Some(oid) => Ok(oid.into()),
            None => Err(missing(kind, &values.text(0).unwrap_or_default()).into()),
        }
    })
    .typed(reference.name)
}

fn output(reference: &'static Reference, session: &Arc<SessionFacts>) -> RowFunction {
    let print = reference.print;
    with(session, reference.output, 1..=1, DataType::Utf8, move |session, values| {
        or_null(values.integer(0).map(|oid| match oid {
            0 => "-".to_owned(),
            oid => print(session, oid).unwrap_or_else(|| oid.to_string()),
        }))
    })
}

/// Operators are listed nowhere: their references are numbers alone.
fn operators(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let none: Lookup = |_, _| Ok(None);
    let inputs = ["regoperin", "regoperatorin"].map(|name| {
        with(session, name, 1..=1, DataType::Int64, move |session, values| {
            match read(session, values, none)? {
                Some(oid) => Ok(oid.into()),
                None => Err(missing("operator", &values.text(0).unwrap_or_default()).into()),
            }
        })
    });
    let outputs = ["regoperout", "regoperatorout"].map(|name| {
        with(session, name, 1..=1, DataType::Utf8, |_, values| {
            or_null(values.integer(0).map(|oid| oid.to_string()))
        })
    });
    inputs.into_iter().chain(outputs).collect()
}

/// A function's oid by its name, or by its name and the types of its arguments.
fn procedure(session: &SessionFacts, text: &str) -> Result<Option<i64>, Error> {
    let (name, arguments) = match text.trim().strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((name, arguments)) => (name, Some(arguments)),
        None => (text, None),
    };
    let name = name_parts(name).pop().unwrap_or_default();
    if let Some(found) = support::by_name(&name) {
        return Ok(Some(found.oid));
    }
    let mut named = session.catalog().functions_named(&name);
    if let Some(arguments) = arguments {
        let oids = |text: &str| text.split(',').map(types::oid_of).collect::<Vec<_>>();
        named.retain(|(_, own)| own.trim() == arguments.trim() || oids(own) == oids(arguments));
    }
    match named.as_slice() {
        [] => Ok(None),
        [(oid, _)] => Ok(Some(*oid)),
        _ => Err(Error::AmbiguousFunction(format!("more than one function named \"{name}\""))),
    }
}

/// A function's name and its arguments as text.
fn function_name(session: &SessionFacts, oid: i64) -> Option<(String, String)> {
    if let Some(found) = support::by_oid(oid) {
        let arguments: Vec<String> =
            found.arguments.iter().map(|one| types::format_type(*one, None)).collect();
        return Some((found.name.to_owned(), arguments.join(",")));
    }
    session.catalog().function(oid).map(|one| (one.name, one.arguments))
}

fn read(session: &SessionFacts, values: &Values<'_>, lookup: Lookup) -> Result<Option<i64>, Error> {
    let Some(text) = values.text(0) else { return Ok(None) };
    match (text.as_str(), values.integer(0)) {
        ("-", _) => Ok(Some(0)),
        (_, Some(oid)) => Ok(Some(oid)),
        (name, None) => lookup(session, name),
    }
}

fn missing(kind: &str, name: &str) -> Error {
    match kind {
        "relation" => Error::TableNotFound(name.to_owned()),
        "schema" => Error::SchemaNotFound(name.to_owned()),
        "function" | "operator" => Error::FunctionNotFound(format!("{kind} \"{name}\" does not exist")),
        _ => Error::UndefinedObject(format!("{kind} \"{name}\" does not exist")),
    }
}
