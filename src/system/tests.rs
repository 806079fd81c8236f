//! A small lake for the tests of this module and of those above it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, MemTable, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::catalog::{Browse, Relation, RelationDetail, RelationKind};
use crate::error::{Error, Result};
use crate::function::{self, SessionFacts, SettingRow, SettingsView};

/// Two schemas with tables and a view, all in memory; counts what is read.
#[derive(Debug)]
pub(crate) struct Lake {
    relations: Mutex<Vec<Arc<Relation>>>,
    pub details_read: AtomicUsize,
}

impl Lake {
    pub(crate) fn new() -> Arc<Self> {
        let lake = Self { relations: Mutex::default(), details_read: AtomicUsize::new(0) };
        lake.add("raw", "airlines", RelationKind::External, None);
        lake.add("raw", "flights", RelationKind::External, Some("all flights"));
        lake.add("mart", "delays", RelationKind::Managed, None);
        lake.add("mart", "late", RelationKind::View, None);
        lake.add("public", "notes", RelationKind::Managed, None);
        Arc::new(lake)
    }

    pub(crate) fn add(&self, schema: &str, name: &str, kind: RelationKind, comment: Option<&str>) {
        let view = kind == RelationKind::View;
        self.relations.lock().unwrap().push(Arc::new(Relation {
            catalog: "lake".to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind,
            comment: comment.map(str::to_owned),
            view_sql: view.then(|| "SELECT * FROM raw.flights WHERE delay > 10".to_owned()),
        }));
    }
}

fn columns(name: &str) -> SchemaRef {
    let commented =
        |field: Field| field.with_metadata([("comment".to_owned(), "the year".to_owned())].into());
    let fields = match name {
        "flights" | "late" => vec![
            commented(Field::new("year", DataType::Int32, false)),
            Field::new("origin", DataType::Utf8View, true),
            Field::new("dep", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("delay", DataType::Decimal128(10, 2), true),
            Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true),
        ],
        "airlines" => {
            vec![Field::new("carrier", DataType::Utf8, true), Field::new("name", DataType::Utf8, true)]
        }
        _ => vec![Field::new("id", DataType::Int64, true), Field::new("note", DataType::Utf8, true)],
    };
    Arc::new(Schema::new(fields))
}

#[async_trait]
impl Browse for Lake {
    fn catalogs(&self) -> Vec<String> {
        vec!["lake".to_owned(), "tpch".to_owned()]
    }

    async fn schemas(&self, catalog: &str) -> Result<Vec<(String, Option<String>)>> {
        if catalog != "lake" {
            return Ok(vec![]);
        }
        let names: std::collections::BTreeSet<String> =
            self.relations.lock().unwrap().iter().map(|relation| relation.schema.clone()).collect();
        let comment = |name: &str| (name == "raw").then(|| "as it came".to_owned());
        Ok(names.into_iter().map(|name| (name.clone(), comment(&name))).collect())
    }

    async fn relations(&self, _: &str, schema: &str) -> Result<Vec<Arc<Relation>>> {
        let relations = self.relations.lock().unwrap();
        Ok(relations.iter().filter(|relation| relation.schema == schema).cloned().collect())
    }

    async fn detail(&self, relation: &Relation) -> Result<RelationDetail> {
        self.details_read.fetch_add(1, Ordering::Relaxed);
        if relation.name == "broken" {
            return Err(Error::CorruptFile {
                path: "broken.parquet".to_owned(),
                reason: "no footer".to_owned(),
            });
        }
        let view = relation.kind == RelationKind::View;
        Ok(RelationDetail {
            schema: columns(&relation.name),
            partitioned_by: if relation.name == "flights" { vec!["year".to_owned()] } else { vec![] },
            properties: BTreeMap::new(),
            row_count: (!view).then_some(336_776),
            size_bytes: (!view).then_some(20_000_000),
            location: (!view).then(|| format!("file:///lake/{}/", relation.name)),
            format: "parquet".to_owned(),
            analyzed: BTreeMap::new(),
            rules: crate::format::iceberg::Rules::default(),
        })
    }
}

#[derive(Debug, Default)]
struct Settings(Mutex<BTreeMap<String, String>>);

impl SettingsView for Settings {
    fn value(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap().get(name).cloned()
    }

    fn limit(&self, _: &str) -> Option<std::time::Duration> {
        None
    }

    fn set(&self, name: &str, value: &str, _: bool) -> Result<String> {
        self.0.lock().unwrap().insert(name.to_owned(), value.to_owned());
        Ok(value.to_owned())
    }

    fn all(&self) -> Vec<SettingRow> {
        let row = |(name, value): (&String, &String)| SettingRow {
            name: name.clone(),
            setting: Some(value.clone()),
            context: "user".to_owned(),
            vartype: "string".to_owned(),
            source: "session".to_owned(),
            ..SettingRow::default()
        };
        self.0.lock().unwrap().iter().map(row).collect()
    }
}

pub(crate) fn session() -> Arc<SessionFacts> {
    let settings = Settings::default();
    for (name, value) in
        [("TimeZone", "UTC"), ("default_table_access_method", "iceberg"), ("max_index_keys", "32")]
    {
        settings.set(name, value, false).unwrap();
    }
    let started = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Arc::new(SessionFacts::new("ada", "lake", 42, started, Arc::new(settings)))
}

/// A context that sees the lake's system tables and, empty, its own.
pub(crate) fn context(lake: &Arc<Lake>, session: &Arc<SessionFacts>) -> SessionContext {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema("lake", "public")
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(2)
        .set_bool("datafusion.execution.skip_physical_aggregate_schema_check", true);
    let context = SessionContext::new_with_config(config);
    function::register(&context, session);
    let catalog = MemoryCatalogProvider::new();
    for schema in super::SCHEMAS {
        let provider = MemorySchemaProvider::new();
        for name in super::names(schema) {
            let table = super::table(lake.clone(), session.clone(), "lake", schema, name).unwrap();
            provider.register_table((*name).to_owned(), table).unwrap();
        }
        catalog.register_schema(schema, Arc::new(provider)).unwrap();
    }
    for relation in lake.relations.lock().unwrap().iter() {
        let table = MemTable::try_new(columns(&relation.name), vec![vec![]]).unwrap();
        let schema = catalog.schema(&relation.schema).unwrap_or_else(|| {
            let schema = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(&relation.schema, schema.clone()).unwrap();
            schema
        });
        schema.register_table(relation.name.clone(), Arc::new(table)).unwrap();
    }
    context.register_catalog("lake", Arc::new(catalog));
    context
}

/// Rows as psql would print them unaligned: columns apart by `|`, null as nothing.
pub(crate) fn printed(batches: &[arrow::array::RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default();
    let mut rows = vec![];
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join("|"));
        }
    }
    rows
}

async fn query(lake: &Arc<Lake>, sql: &str) -> Result<Vec<String>> {
    let session = session();
    let context = context(lake, &session);
    let frame = context.sql(sql).await?;
    Ok(printed(&frame.collect().await?))
}

#[tokio::test]
async fn a_new_table_is_seen_at_once_and_keeps_its_oid() {
    let lake = Lake::new();
    let sql = "SELECT oid FROM pg_catalog.pg_class WHERE relname = 'flights'";
    let before = query(&lake, sql).await.unwrap();
    lake.add("raw", "a_new_one", RelationKind::Managed, None);
    assert_eq!(query(&lake, sql).await.unwrap(), before);
    let sql = "SELECT relname FROM pg_catalog.pg_class WHERE relname = 'a_new_one'";
    assert_eq!(query(&lake, sql).await.unwrap(), ["a_new_one"]);
}

#[tokio::test]
async fn listing_names_reads_no_table() {
    let lake = Lake::new();
    query(&lake, "SELECT relname, relkind FROM pg_catalog.pg_class WHERE relkind IN ('r', 'v')")
        .await
        .unwrap();
    query(&lake, "SELECT * FROM information_schema.tables").await.unwrap();
    assert_eq!(lake.details_read.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_filter_spares_the_other_tables() {
    let lake = Lake::new();
    let rows = query(
        &lake,
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'airlines' AND table_schema = 'raw'",
    );
    assert_eq!(rows.await.unwrap(), ["carrier", "name"]);
    assert_eq!(lake.details_read.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_a_join_learns_spares_the_other_tables() {
    let lake = Lake::new();
    let rows = query(
        &lake,
        "SELECT a.attname FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c, pg_catalog.pg_namespace n \
         WHERE c.oid = a.attrelid AND a.attnum > 0 AND c.relname = 'airlines' \
         AND c.relnamespace = n.oid AND n.nspname = 'raw' ORDER BY a.attnum",
    );
    assert_eq!(rows.await.unwrap(), ["carrier", "name"]);
    assert_eq!(lake.details_read.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_broken_table_hides_no_other() {
    let lake = Lake::new();
    lake.add("raw", "broken", RelationKind::External, None);
    let all = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'raw'";
    assert_eq!(query(&lake, all).await.unwrap(), ["7"]);
    let one = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'broken'";
    assert!(matches!(query(&lake, one).await, Err(Error::CorruptFile { .. })));
}

#[tokio::test]
async fn every_system_table_can_be_read_whole() {
    let lake = Lake::new();
    for schema in super::SCHEMAS {
        for name in super::names(schema) {
            let rows = query(&lake, &format!("SELECT * FROM {schema}.{name}")).await.unwrap();
            let empty = schema == "pg_catalog" && super::is_always_empty(name);
            assert!(rows.is_empty() || !empty, "{name}");
        }
    }
}
