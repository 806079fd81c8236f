//! Commits: what one change after another leaves in a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;

use object_store::ObjectStoreExt;

use super::lake::{Lake, create};
use crate::error::Error;
use crate::format::iceberg::manifest::Status;
use crate::format::iceberg::{
    COMMENT_KEY, Change, Definition, Removal, TableMetadata, arrow_schema, load, publish_hint, read,
    replacement_schema, snapshot, stage,
};
use crate::format::partition::{PartitionField, Transform};
use crate::format::{DataFile, WrittenFile};

fn batch(days: &[&str], numbers: &[i64]) -> RecordBatch {
    let days: ArrayRef = Arc::new(StringArray::from(days.to_vec()));
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("day", days, true), ("n", numbers, true)]).unwrap()
}

fn by_day() -> Vec<PartitionField> {
    vec![PartitionField { source: "day".into(), name: "day".into(), transform: Transform::Identity }]
}

/// One file of one day.
async fn file(lake: &Lake, metadata: &TableMetadata, day: &str, numbers: &[i64]) -> WrittenFile {
    let partition = match metadata.partition_fields().is_empty() {
        true => vec![],
        false => vec![ScalarValue::from(day)],
    };
    lake.write(metadata, partition, &batch(&vec![day; numbers.len()], numbers)).await
}

async fn files(lake: &Lake, metadata: &TableMetadata) -> Arc<[DataFile]> {
    snapshot(&lake.location, metadata, None).await.unwrap().files
}

/// Live paths, in order.
async fn paths(lake: &Lake, metadata: &TableMetadata) -> Vec<object_store::path::Path> {
    let mut paths: Vec<_> =
        files(lake, metadata).await.iter().map(|file| file.object.location.clone()).collect();
    paths.sort();
    paths
}

/// The status of every entry of the current snapshot, with its data sequence number.
async fn statuses(lake: &Lake, metadata: &TableMetadata) -> Vec<(Status, i64)> {
    let current = metadata.current_snapshot().unwrap();
    let mut statuses = Vec::new();
    for listed in read::manifests(&lake.location, current).await.unwrap().iter() {
        for entry in read::entries(&lake.location, metadata, listed).await.unwrap() {
            statuses.push((entry.status, entry.sequence_number.unwrap()));
        }
    }
    statuses.sort_by_key(|(status, number)| (*status as i32, *number));
    statuses
}

fn count(metadata: &TableMetadata, name: &str) -> Option<i64> {
    metadata.current_snapshot().unwrap().summary.get(name)?.parse().ok()
}

#[tokio::test]
async fn create_and_append_make_one_version_with_one_snapshot() {
    let lake = Lake::in_memory();
    let schema = batch(&[], &[]).schema();
    let empty = lake.stage(None, vec![create(&schema, vec![])]).await;
    assert!(empty.current_snapshot().is_none() && files(&lake, &empty).await.is_empty());

    let lake = Lake::in_memory();
    let first = file(&lake, &empty, "monday", &[5, 3, 9]).await;
    let second = file(&lake, &empty, "a day with a long name", &[1]).await;
    let changes = vec![create(&schema, vec![]), Change::Append(vec![first, second])];
    let staged = lake.stage(None, changes).await;
    assert_eq!(lake.names(".metadata.json").await.len(), 1);

    let loaded = load(&lake.location, &staged.url).await.unwrap();
    assert!(Arc::ptr_eq(&loaded, &staged), "what was just written is not read again");
    let path = lake.location.path_of(&staged.url).unwrap();
    let stored = lake.location.store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(TableMetadata::parse(&staged.url, &stored).unwrap(), *staged);
    assert_eq!((loaded.snapshots.len(), loaded.version(), loaded.row_count()), (1, 0, Some(4)));
    assert_eq!(loaded.properties["write.delete.mode"], "copy-on-write");

    let files = files(&lake, &loaded).await;
    let statistics = files[0].statistics.as_ref().unwrap().get();
    assert_eq!(statistics.num_rows, Precision::Exact(3));
    let [day, n] = statistics.column_statistics.as_slice() else { panic!("two columns") };
    assert_eq!(n.min_value, Precision::Exact(ScalarValue::Int64(Some(3))));
    assert_eq!(n.max_value, Precision::Exact(ScalarValue::Int64(Some(9))));
    assert_eq!((n.null_count, n.byte_size), (Precision::Exact(0), Precision::Exact(24)));
    assert_eq!(day.max_value, Precision::Exact(ScalarValue::Utf8View(Some("monday".into()))));
    let long = files[1].statistics.as_ref().unwrap().get().column_statistics[0].clone();
    assert_eq!(long.min_value, Precision::Inexact(ScalarValue::Utf8View(Some("a day with a lon".into()))));
    assert_eq!(long.max_value, Precision::Inexact(ScalarValue::Utf8View(Some("a day with a loo".into()))));
}

#[tokio::test]
async fn an_overwrite_of_partitions_keeps_the_other_partitions() {
    let lake = Lake::in_memory();
    let table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), by_day())]).await;
    let (monday, tuesday) = (file(&lake, &table, "mo", &[1]).await, file(&lake, &table, "tu", &[2]).await);
    let both = lake.stage(Some(&table), vec![Change::Append(vec![monday, tuesday.clone()])]).await;
    assert_eq!(count(&both, "changed-partition-count"), Some(2));

    let again = file(&lake, &both, "mo", &[10, 20]).await;
    let kept = vec![tuesday.path.clone(), again.path.clone()];
    let change = Change::Overwrite { add: vec![again], remove: Removal::Partitions };
    let after = lake.stage(Some(&both), vec![change]).await;
    let mut wanted = kept;
    wanted.sort();
    assert_eq!(paths(&lake, &after).await, wanted);
    assert_eq!(
        statuses(&lake, &after).await,
        [(Status::Existing, 1), (Status::Added, 2), (Status::Deleted, 1)]
    );
    assert_eq!(after.current_snapshot().unwrap().summary["operation"], "overwrite");
    assert_eq!(after.row_count(), Some(3));
    assert_eq!((count(&after, "deleted-records"), count(&after, "total-data-files")), (Some(1), Some(2)));
    let old = both.current_snapshot_id;
    let then = snapshot(&lake.location, &after, old).await.unwrap();
    assert_eq!(then.files.len(), 2, "the past stays readable");
    let live = files(&lake, &after).await;
    let day = live[0].statistics.as_ref().unwrap().get().column_statistics[0].clone();
    assert_eq!(day.min_value, day.max_value, "an identity partition is a constant");

    let truncate = Change::Overwrite { add: vec![], remove: Removal::All };
    let truncated = lake.stage(Some(&after), vec![truncate.clone()]).await;
    assert!(files(&lake, &truncated).await.is_empty());
    assert_eq!(truncated.current_snapshot().unwrap().summary["operation"], "delete");
    let nothing = lake.stage(Some(&truncated), vec![truncate]).await;
    assert_eq!(nothing.snapshots.len(), truncated.snapshots.len(), "nothing to remove, no snapshot");
    assert_eq!(nothing.metadata_log.last().unwrap().metadata_file, truncated.url);
}

#[tokio::test]
async fn removing_files_that_another_writer_took_is_a_conflict() {
    let lake = Lake::in_memory();
    let table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), vec![])]).await;
    let (one, two) = (file(&lake, &table, "mo", &[1]).await, file(&lake, &table, "tu", &[2]).await);
    let base = lake.stage(Some(&table), vec![Change::Append(vec![one.clone(), two.clone()])]).await;
    let rewrite = |path| {
        let remove = Removal::Files(vec![path]);
        vec![Change::Overwrite { add: vec![], remove }]
    };
    let mine = lake.stage(Some(&base), rewrite(one.path.clone())).await;
    assert_eq!(paths(&lake, &mine).await, vec![two.path.clone()]);
    let late = stage(&lake.location, &lake.dir, Some(&mine), rewrite(one.path)).await;
    assert!(matches!(late, Err(Error::CommitConflict { .. })));

    // An append that loses the race is staged again on the winner, with the same files.
    let three = file(&lake, &base, "we", &[3]).await;
    let append = vec![Change::Append(vec![three.clone()])];
    lake.stage(Some(&base), append.clone()).await;
    let rebased = lake.stage(Some(&mine), append).await;
    let mut wanted = vec![two.path, three.path];
    wanted.sort();
    assert_eq!(paths(&lake, &rebased).await, wanted);
}

#[tokio::test]
async fn changes_of_one_call_fold_into_one_snapshot() {
    let lake = Lake::in_memory();
    let table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), by_day())]).await;
    let [a, b, c] = ["mo", "tu", "mo"].map(|day| file(&lake, &table, day, &[1]));
    let (a, b, c) = (a.await, b.await, c.await);
    let changes = vec![
        Change::Append(vec![a.clone(), b.clone()]),
        Change::Overwrite { add: vec![c.clone()], remove: Removal::Partitions },
        Change::Overwrite { add: vec![], remove: Removal::Files(vec![b.path.clone()]) },
    ];
    let after = lake.stage(Some(&table), changes).await;
    assert_eq!(after.snapshots.len(), 1);
    assert_eq!(paths(&lake, &after).await, vec![c.path]);
}

#[tokio::test]
async fn many_small_appends_are_merged_and_lose_nothing() {
    let lake = Lake::in_memory();
    let mut table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), by_day())]).await;
    let one = file(&lake, &table, "mo", &[1]).await;
    for at in 0..105 {
        let path = lake.dir.clone().join("data").join(format!("{at}.parquet"));
        let file = WrittenFile { path, ..one.clone() };
        table = lake.stage(Some(&table), vec![Change::Append(vec![file])]).await;
    }
    let current = table.current_snapshot().unwrap();
    let manifests = read::manifests(&lake.location, current).await.unwrap();
    assert!(manifests.len() < 10, "{} manifests", manifests.len());
    assert_eq!(files(&lake, &table).await.len(), 105);
    assert_eq!((table.row_count(), count(&table, "total-data-files")), (Some(105), Some(105)));
    let statuses = statuses(&lake, &table).await;
    let mut numbers: Vec<i64> = statuses.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=105).collect::<Vec<_>>(), "merging keeps sequence numbers");
    assert_eq!(manifests.iter().map(|listed| listed.min_sequence_number).min(), Some(1));
    assert_eq!(table.metadata_log.len(), 100);
}

#[tokio::test]
async fn a_replaced_table_has_new_columns_and_its_past() {
    let lake = Lake::in_memory();
    let table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), by_day())]).await;
    let monday = file(&lake, &table, "mo", &[1]).await;
    let before = lake.stage(Some(&table), vec![Change::Append(vec![monday])]).await;

    let words: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let words = RecordBatch::try_from_iter([("n", words)]).unwrap();
    let definition = Definition {
        schema: words.schema(),
        partition: vec![PartitionField {
            source: "n".into(),
            name: "n_bucket".into(),
            transform: Transform::Bucket(4),
        }],
        properties: BTreeMap::from([("owner".to_owned(), "me".to_owned())]),
        comment: None,
    };
    let stored = replacement_schema(&before, &words.schema()).unwrap();
    let replace = Change::Replace(definition);
    let shell = lake.stage(Some(&before), vec![replace.clone()]).await;
    assert_eq!(arrow_schema(&shell).as_ref(), &stored);
    let new = lake.write(&shell, vec![ScalarValue::Int32(Some(3))], &words).await;
    let after = lake.stage(Some(&before), vec![replace, Change::Append(vec![new.clone()])]).await;

    assert_eq!(paths(&lake, &after).await, vec![new.path]);
    assert_eq!((after.current_schema().fields[0].id, after.last_column_id), (3, 3), "ids are never reused");
    assert_eq!((after.snapshots.len(), after.comment()), (2, None));
    assert_eq!(after.partition_columns(after.default_spec_id).unwrap()[0].field_id, 1001);
    let then = snapshot(&lake.location, &after, before.current_snapshot_id).await.unwrap();
    assert_eq!((then.schema.fields().len(), then.files.len()), (2, 1));
    assert_eq!(statuses(&lake, &after).await, [(Status::Added, 2), (Status::Deleted, 1)]);
}

#[tokio::test]
async fn comments_and_properties_change_without_a_snapshot() {
    let lake = Lake::in_memory();
    let table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), vec![])]).await;
    let comment = |column: &str, comment: Option<&str>| Change::SetColumnComment {
        column: column.to_owned(),
        comment: comment.map(str::to_owned),
    };
    let properties = BTreeMap::from([("a".to_owned(), Some("1".to_owned())), ("comment".to_owned(), None)]);
    let after = lake
        .stage(Some(&table), vec![comment("n", Some("how many")), Change::SetProperties(properties)])
        .await;
    assert_eq!(arrow_schema(&after).field(1).metadata()[COMMENT_KEY], "how many");
    assert_eq!((after.properties["a"].as_str(), after.comment()), ("1", None));
    assert!(after.snapshots.is_empty());
    let back = lake.stage(Some(&after), vec![comment("n", None)]).await;
    assert_eq!((back.current_schema_id, back.schemas.len()), (table.current_schema_id, 2));

    let missing = stage(&lake.location, &lake.dir, Some(&after), vec![comment("x", None)]).await;
    assert!(matches!(missing, Err(Error::ColumnNotFound { .. })));
    let hour = PartitionField { source: "n".into(), name: "h".into(), transform: Transform::Hour };
    let definition = vec![create(&batch(&[], &[]).schema(), vec![hour])];
    let refused = stage(&lake.location, &lake.dir, None, definition).await;
    assert!(matches!(refused, Err(Error::DatatypeMismatch(_))));
}

#[tokio::test]
async fn the_hint_never_goes_back() {
    let lake = Lake::in_memory();
    let first = lake.stage(None, vec![create(&batch(&[], &[]).schema(), vec![])]).await;
    let second = lake.stage(Some(&first), vec![Change::SetComment(Some("x".to_owned()))]).await;
    publish_hint(&lake.location, &lake.dir, &second).await.unwrap();
    publish_hint(&lake.location, &lake.dir, &first).await.unwrap();
    let hint = lake.dir.clone().join("metadata").join("version-hint.text");
    let content = lake.location.store.get(&hint).await.unwrap().bytes().await.unwrap();
    assert_eq!(content.as_ref(), b"1");
    assert_eq!(lake.names("v1.metadata.json").await.len(), 1);
}

#[tokio::test]
async fn a_table_elsewhere_is_refused_even_when_it_was_read_before() {
    let lake = Lake::in_memory();
    let table = lake.stage(None, vec![create(&batch(&[], &[]).schema(), vec![])]).await;
    load(&lake.location, &table.url).await.unwrap();
    let other = Lake::in_memory();
    let refused = load(&other.location, &table.url).await;
    assert!(matches!(refused, Err(Error::PermissionDenied(_))));
}

/// Whoever calls these spawns them.
#[test]
fn futures_can_be_sent() {
    fn sent(_: impl Future + Send) {}
    let lake = Lake::in_memory();
    let Lake { location, dir } = &lake;
    sent(stage(location, dir, None, vec![]));
    sent(load(location, ""));
    let metadata = |metadata: &TableMetadata| {
        sent(snapshot(location, metadata, None));
        sent(publish_hint(location, dir, metadata));
    };
    let _ = metadata;
}
