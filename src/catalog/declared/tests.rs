use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datafusion::common::ScalarValue;
use datafusion::prelude::SessionContext;
use object_store::local::LocalFileSystem;

use super::*;
use crate::catalog::definition::load;
use crate::format::files::OpenFiles;
use crate::format::files::listing::ListingLimits;
use crate::format::files::testing::location;
use crate::scan::FilesTable;

/// The sample lake, each of its tables under its own name.
async fn sample_lake() -> SessionContext {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
    let definitions = load(&folder).unwrap();
    let (name, lake) = definitions.iter().find(|(name, _)| name == "lake").unwrap();
    let store = LocalFileSystem::new_with_prefix(lake.root().unwrap()).unwrap();
    let mut root = location("lake://sample/", "", Arc::new(store));
    root.url = "lake://sample/".to_owned();
    let context = SessionContext::new();
    context.runtime_env().register_object_store(root.store_url.as_ref(), Arc::clone(&root.store));
    let declared = DeclaredTables::new(lake.declared_folder(name));
    let files = OpenFiles::new(ListingLimits::default());
    for table in declared.tables("raw").unwrap() {
        let set = declared.table("raw", &table).unwrap().unwrap().file_set(&root).unwrap();
        let snapshot = files.snapshot(&context.state(), &root, &set).await.unwrap();
        context.register_table(table, Arc::new(FilesTable::new(Arc::new(snapshot)))).unwrap();
    }
    context
}

async fn value(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("there is a row");
    ScalarValue::try_from_array(batch.column(0), 0).unwrap().to_string()
}

#[tokio::test]
async fn the_sample_lake_holds_what_was_published() {
    let context = sample_lake().await;
    for (sql, expected) in [
        ("SELECT count(*) FROM flights", "336776"),
        ("SELECT sum(distance) FROM flights", "350217607"),
        ("SELECT count(*) FROM flights WHERE dep_time IS NULL", "8255"),
        ("SELECT count(*) FROM flights WHERE month = 2", "24951"),
        ("SELECT arrow_typeof(month) FROM flights LIMIT 1", "Int32"),
        ("SELECT max(time_hour)::text FROM flights", "2014-01-01T04:00:00Z"),
        ("SELECT count(*) FROM airlines", "16"),
        ("SELECT count(*) FROM airports", "1458"),
        ("SELECT count(*) - count(tzone) FROM airports", "3"),
        ("SELECT count(*) FROM planes", "3322"),
        ("SELECT count(*) - count(year) FROM planes", "70"),
        ("SELECT count(*) FROM weather", "26115"),
        ("SELECT min(time_hour)::text FROM weather", "2013-01-01T06:00:00Z"),
        ("SELECT count(*) FROM flights JOIN weather USING (origin, time_hour)", "335220"),
    ] {
        assert_eq!(value(&context, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn every_column_of_the_sample_lake_has_a_comment() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/lake");
    let declared = DeclaredTables::new(folder);
    assert_eq!(declared.schemas().unwrap(), ["raw"]);
    let tables = declared.tables("raw").unwrap();
    assert_eq!(tables, ["airlines", "airports", "flights", "planes", "weather"]);
    for name in tables {
        let table = declared.table("raw", &name).unwrap().unwrap();
        assert!(table.comment.is_some());
        let described = table.described(table.set.columns.as_ref().unwrap());
        assert!(described.fields().iter().all(|field| field.metadata().contains_key("comment")), "{name}");
    }
    for stranger in ["..", "raw/../raw", "", "_raw"] {
        assert!(declared.tables(stranger).unwrap().is_empty());
        assert!(declared.table("raw", stranger).unwrap().is_none());
    }
}

#[test]
fn a_declaration_is_read_again_when_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("raw");
    std::fs::create_dir(&schema).unwrap();
    let file = schema.join("t.toml");
    let declared = DeclaredTables::new(folder.path().to_owned());
    let write = |text: &str, age: u64| {
        std::fs::write(&file, text).unwrap();
        let changed = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(changed).unwrap();
    };
    assert!(declared.table("raw", "t").unwrap().is_none());
    write("location = \"x.csv\"\ncomment = \"one\"\n", 20);
    assert_eq!(declared.table("raw", "t").unwrap().unwrap().comment.as_deref(), Some("one"));
    write("location = \"x.csv\"\ncomment = \"two\"\n", 10);
    assert_eq!(declared.table("raw", "t").unwrap().unwrap().comment.as_deref(), Some("two"));
    std::fs::remove_file(&file).unwrap();
    assert!(declared.table("raw", "t").unwrap().is_none());
}

#[test]
fn mistakes_in_a_declaration_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("raw")).unwrap();
    let message = |text: &str| {
        std::fs::write(folder.path().join("raw/t.toml"), text).unwrap();
        let declared = DeclaredTables::new(folder.path().to_owned());
        declared.table("raw", "t").unwrap_err().to_string()
    };
    let cases = [
        ("locatoin = \"x\"", "line 1: \"locatoin\": unknown field"),
        ("location = \"x\"\nformat = \"xlsx\"", "line 2: \"format\": unknown variant `xlsx`"),
        (
            "location = \"x.csv\"\n[[column]]\nname = \"a\"\ntype = \"intt\"",
            "column \"a\" has the unknown type \"intt\"",
        ),
        (
            "location = \"x.csv\"\n[[column]]\nname = \"a\"\ntype = \"bytea\"",
            "a type that CSV files cannot hold",
        ),
        ("location = \"x.csv\"\n[options]\ndelimiter = \"||\"", "takes one character"),
        (
            "location = \"x\"\npartitions = [{ name = \"a\", type = \"int\" }]\n[[column]]\nname = \"a\"\ntype = \"int\"",
            "column \"a\" is declared twice",
        ),
    ];
    for (text, expected) in cases {
        let found = message(text);
        assert!(found.contains(expected) && found.contains("t.toml"), "{found}");
    }
}

#[test]
fn a_location_outside_of_the_root_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("raw")).unwrap();
    std::fs::write(folder.path().join("raw/t.toml"), "location = \"../../secrets.csv\"").unwrap();
    let declared = DeclaredTables::new(folder.path().to_owned());
    let table = declared.table("raw", "t").unwrap().unwrap();
    let root = location("mem://bucket/", "lake", Arc::new(object_store::memory::InMemory::new()));
    assert_eq!(table.file_set(&root).unwrap_err().sqlstate(), "42501");
}
