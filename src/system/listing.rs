//! Listings: every schema and relation of one database, with its oid.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::definition::{self, Definition};
use crate::catalog::temporary::TEMPORARY_SCHEMA;
use crate::catalog::{Browse, Relation, RelationDetail, RelationKind};
use crate::error::Result;
use crate::format::iceberg::Rules;
use crate::function::oid::Assignment;
use crate::function::{CatalogFacts, Namespace, RelationName};

/// The oid of `pg_catalog`, as in PostgreSQL.
pub(super) const PG_CATALOG: i64 = 11;
const PUBLIC: i64 = 2200;
const INFORMATION_SCHEMA: i64 = 13_000;

/// How many relations are read at once.
const DETAILS_MAX: usize = 16;

/// A relation with its oid and its schema's.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub oid: i64,
    pub namespace: i64,
    pub relation: Arc<Relation>,
    /// Of a system relation, what it consists of.
    pub definition: Option<&'static Definition>,
}

impl Entry {
    /// `pg_class.relkind`. External tables are tables too: `\dt` shows no foreign ones.
    pub(super) fn kind(&self) -> char {
        match (self.relation.kind, self.definition) {
            (_, Some(definition)) => definition.kind,
            (RelationKind::View, None) => 'v',
            (RelationKind::Materialized { .. }, None) => 'm',
            _ => 'r',
        }
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.relation.schema == TEMPORARY_SCHEMA
    }
}

/// The schemas and relations of a database, sorted by name, the system's own first.
#[derive(Debug)]
pub(super) struct Listing {
    pub database: String,
    pub namespaces: Vec<Namespace>,
    pub entries: Vec<Entry>,
}

impl Listing {
    /// Lists a database. Costs what `browse` takes to list each schema; no relation is read.
    pub(super) async fn load(browse: &dyn Browse, database: &str) -> Result<Self> {
        let mut oids = Assignment::default();
        let mut namespaces = system_namespaces();
        let mut entries: Vec<Entry> = system_entries(database).collect();
        for (name, comment) in browse.schemas(database).await? {
            let oid = if name == "public" { PUBLIC } else { oids.assign(&["schema", database, &name]) };
            namespaces.push(Namespace { oid, name, comment });
        }
        let schemas = namespaces.iter().skip(system_namespaces().len());
        let listed: Vec<_> = schemas.map(|one| relations(browse, database, one).boxed()).collect();
        let relations: Vec<_> = futures::stream::iter(listed).buffered(DETAILS_MAX).try_collect().await?;
        for (namespace, relation) in
            relations.into_iter().flat_map(|(oid, found)| found.into_iter().map(move |one| (oid, one)))
        {
            let oid = oids.assign_relation(&["relation", database, &relation.schema, &relation.name]);
            entries.push(Entry { oid, namespace, relation, definition: None });
        }
        Ok(Self { database: database.to_owned(), namespaces, entries })
    }

    /// What functions may know of this listing.
    pub(super) fn facts(&self, sizes_wanted: bool) -> CatalogFacts {
        let named = |entry: &Entry| RelationName {
            oid: entry.oid,
            schema: entry.relation.schema.clone(),
            name: entry.relation.name.clone(),
            kind: entry.kind(),
            comment: entry.relation.comment.clone(),
            view_sql: entry.relation.view_sql.clone(),
        };
        let relations = self.entries.iter().map(named).collect();
        CatalogFacts::new(self.namespaces.clone(), relations, sizes_wanted)
    }
}

async fn relations(
    browse: &dyn Browse,
    database: &str,
    namespace: &Namespace,
) -> Result<(i64, Vec<Arc<Relation>>)> {
    Ok((namespace.oid, browse.relations(database, &namespace.name).await?))
}

fn system_namespaces() -> Vec<Namespace> {
    let namespace = |oid, name: &str, comment: &str| Namespace {
        oid,
        name: name.to_owned(),
        comment: (!comment.is_empty()).then(|| comment.to_owned()),
    };
    vec![
        namespace(PG_CATALOG, "pg_catalog", "system catalog schema"),
        namespace(INFORMATION_SCHEMA, "information_schema", ""),
    ]
}

fn system_entries(database: &str) -> impl Iterator<Item = Entry> {
    let schemas = [("pg_catalog", PG_CATALOG), ("information_schema", INFORMATION_SCHEMA)];
    schemas.into_iter().flat_map(move |(schema, namespace)| {
        definition::of_schema(schema).iter().map(move |definition| Entry {
            oid: definition.oid,
            namespace,
            relation: Arc::new(Relation {
                catalog: database.to_owned(),
                schema: schema.to_owned(),
                name: definition.name.to_owned(),
                kind: RelationKind::System,
                comment: None,
                view_sql: None,
            }),
            definition: Some(definition),
        })
    })
}

/// Columns and figures of relations, in the order given, at most [`DETAILS_MAX`] read at once.
///
/// One relation that cannot be read among several is left without detail, with a warning: a broken
/// file must not hide the tables beside it.
///
/// # Errors
/// The relation's own error, if it was the only one asked for.
pub(super) async fn details(browse: &dyn Browse, entries: &[Entry]) -> Result<Vec<Option<RelationDetail>>> {
    let alone = entries.len() == 1;
    let read: Vec<_> = entries.iter().map(|entry| detail_or_none(browse, entry, alone).boxed()).collect();
    futures::stream::iter(read).buffered(DETAILS_MAX).try_collect().await
}

async fn detail_or_none(browse: &dyn Browse, entry: &Entry, alone: bool) -> Result<Option<RelationDetail>> {
    match detail(browse, entry).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if alone => Err(error),
        Err(error) => {
            let relation = &entry.relation;
            tracing::warn!(schema = %relation.schema, table = %relation.name, %error, "table left out of a listing");
            Ok(None)
        }
    }
}

async fn detail(browse: &dyn Browse, entry: &Entry) -> Result<RelationDetail> {
    match entry.definition {
        Some(definition) => Ok(built_in(&definition.schema)),
        None => browse.detail(&entry.relation).await,
    }
}

fn built_in(schema: &SchemaRef) -> RelationDetail {
    RelationDetail {
        schema: Arc::clone(schema),
        partitioned_by: vec![],
        properties: std::collections::BTreeMap::new(),
        row_count: None,
        size_bytes: None,
        location: None,
        format: "system".to_owned(),
        analyzed: std::collections::BTreeMap::new(),
        rules: Rules::default(),
    }
}
