use serde_json::{Value, json};

use super::*;

const URL: &str = "s3://bucket/lake/_lacus/tables/s.t-1a2b3c4d";
const UUID: &str = "1a2b3c4d-03fe-4693-9a96-a0705ddf69c1";

fn updates(json: Value) -> Vec<Update> {
    serde_json::from_value(json).unwrap()
}

/// A table of two columns, partitioned by the first, with one snapshot of it.
fn table() -> TableMetadata {
    let new: NewIcebergTable = serde_json::from_value(json!({
        "name": "t",
        "schema": {"type": "struct", "identifier-field-ids": [40], "fields": [
            {"id": 40, "name": "a", "required": true, "type": "int"},
            {"id": 30, "name": "b", "required": false, "type": {
                "type": "list", "element-id": 20, "element-required": false, "element": "string"}},
        ]},
        "partition-spec": {"fields": [{"source-id": 40, "name": "a", "transform": "identity"}]},
        "write-order": {"order-id": 5, "fields": [
            {"source-id": 40, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]},
        "properties": {"format-version": "2", "comment": "of tests"},
    }))
    .unwrap();
    apply_updates(None, URL, &begin(&new, UUID).unwrap()).unwrap()
}

fn snapshot(id: i64, sequence_number: i64, parent: Option<i64>) -> Value {
    json!({"snapshot-id": id, "sequence-number": sequence_number, "parent-snapshot-id": parent,
        "timestamp-ms": 5, "manifest-list": format!("{URL}/metadata/snap-{id}.avro"),
        "summary": {"operation": "append"}, "schema-id": 0})
}

fn append(id: i64, sequence_number: i64, parent: Option<i64>) -> Vec<Update> {
    updates(json!([
        {"action": "add-snapshot", "snapshot": snapshot(id, sequence_number, parent)},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id},
    ]))
}

#[test]
fn a_new_table_gets_ids_of_ours() {
    let table = table();
    let fields = serde_json::to_value(table.current_schema()).unwrap();
    assert_eq!(fields["identifier-field-ids"], json!([1]));
    assert_eq!((&fields["fields"][0]["id"], &fields["fields"][1]["id"]), (&json!(1), &json!(2)));
    assert_eq!(fields["fields"][1]["type"]["element-id"], 3);
    assert_eq!((table.last_column_id, table.last_partition_id), (3, 1000));
    assert_eq!(table.default_spec().fields[0].source_id, 1);
    assert_eq!(table.default_sort_order_id, 1);
    assert_eq!(table.sort_orders[1].fields[0]["source-id"], 1);
    assert_eq!((table.table_uuid.as_str(), table.location.as_str()), (UUID, URL));
    assert_eq!((table.comment(), table.properties.get("format-version")), (Some("of tests"), None));
    assert_eq!(table.properties["write.merge.mode"], "copy-on-write");
    assert!(table.current_snapshot().is_none());
}

#[test]
fn snapshots_follow_one_another() {
    let one = apply_updates(Some(&table()), URL, &append(7, 1, None)).unwrap();
    assert_eq!((one.current_snapshot_id, one.last_sequence_number), (Some(7), 1));
    let two = apply_updates(Some(&one), URL, &append(8, 2, Some(7))).unwrap();
    assert_eq!(two.snapshot_log.iter().map(|entry| entry.snapshot_id).collect::<Vec<_>>(), [7, 8]);
    for (wrong, sqlstate) in [
        (append(8, 1, Some(7)), "40001"),
        (append(8, 3, Some(7)), "22023"),
        (append(8, i64::MAX, Some(7)), "22023"),
        (append(7, 2, None), "22023"),
        (append(8, 2, Some(6)), "22023"),
    ] {
        assert_eq!(apply_updates(Some(&one), URL, &wrong).unwrap_err().sqlstate(), sqlstate, "{wrong:?}");
    }
    let back = json!([{"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 7},
        {"action": "set-snapshot-ref", "ref-name": "kept", "type": "tag", "snapshot-id": 8}]);
    let back = apply_updates(Some(&two), URL, &updates(back)).unwrap();
    assert_eq!((back.current_snapshot_id, back.refs["kept"].snapshot_id), (Some(7), 8));
    let remove = |id: i64| updates(json!([{"action": "remove-snapshots", "snapshot-ids": [id]}]));
    assert!(apply_updates(Some(&back), URL, &remove(7)).is_err(), "the current one stays");
    let less = apply_updates(Some(&back), URL, &remove(8)).unwrap();
    assert_eq!((less.snapshots.len(), less.refs.len()), (1, 1));
}

#[test]
fn rules_of_a_table_are_out_of_reach_and_hold() {
    let mut table = table();
    let properties = [
        json!([{"action": "set-properties", "updates": {"lacus.rules": "{}"}}]),
        json!([{"action": "remove-properties", "removals": ["comment", "lacus.rules"]}]),
    ];
    for change in properties {
        assert_eq!(apply_updates(Some(&table), URL, &updates(change)).unwrap_err().sqlstate(), "0A000");
    }
    let default = rules::Rules { defaults: [(1, "0".to_owned())].into(), ..Default::default() };
    table.set_rules(&default).unwrap();
    apply_updates(Some(&table), URL, &append(7, 1, None)).expect("a default asks nothing of rows");
    let check = rules::Check { name: "positive".to_owned(), sql: "a > 0".to_owned() };
    table.set_rules(&rules::Rules { checks: vec![check], ..default }).unwrap();
    let ruled = apply_updates(Some(&table), URL, &append(7, 1, None)).expect("the engine looks at the rows");
    let ruled = apply_updates(Some(&ruled), URL, &append(8, 2, Some(7))).unwrap();
    let back =
        json!([{"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 7}]);
    assert_eq!(apply_updates(Some(&ruled), URL, &updates(back)).unwrap_err().sqlstate(), "0A000");
    let renamed = json!([{"action": "add-schema", "schema": {"type": "struct", "fields": [
        {"id": 1, "name": "z", "required": true, "type": "int"}]}},
        {"action": "set-current-schema", "schema-id": -1}]);
    assert_eq!(apply_updates(Some(&ruled), URL, &updates(renamed)).unwrap_err().sqlstate(), "0A000");
}

#[test]
fn requirements_hold_or_are_conflicts() {
    let table = apply_updates(Some(&table()), URL, &append(7, 1, None)).unwrap();
    let check = |json: Value, table: Option<&TableMetadata>| {
        let requirement: Requirement = serde_json::from_value(json).unwrap();
        requirement.check(table, "t").map_err(|error| error.sqlstate())
    };
    let pairs = [
        (
            "assert-table-uuid",
            "uuid",
            json!(UUID.to_uppercase()),
            json!("9c12d441-03fe-4693-9a96-a0705ddf69c1"),
        ),
        ("assert-ref-snapshot-id", "snapshot-id", json!(7), json!(8)),
        ("assert-ref-snapshot-id", "snapshot-id", json!(7), Value::Null),
        ("assert-current-schema-id", "current-schema-id", json!(0), json!(1)),
        ("assert-last-assigned-field-id", "last-assigned-field-id", json!(3), json!(2)),
        ("assert-last-assigned-partition-id", "last-assigned-partition-id", json!(1000), json!(999)),
        ("assert-default-spec-id", "default-spec-id", json!(0), json!(1)),
        ("assert-default-sort-order-id", "default-sort-order-id", json!(1), json!(0)),
    ];
    for (kind, name, right, wrong) in pairs {
        assert_eq!(check(json!({"type": kind, "ref": "main", name: right}), Some(&table)), Ok(()), "{kind}");
        let wrong = json!({"type": kind, "ref": "main", name: wrong});
        assert_eq!(check(wrong.clone(), Some(&table)), Err("40001"), "{kind}");
    }
    let create = json!({"type": "assert-create"});
    assert_eq!((check(create.clone(), None), check(create, Some(&table))), (Ok(()), Err("42P07")));
    let branch = json!({"type": "assert-ref-snapshot-id", "ref": "dev"});
    assert_eq!(check(branch, Some(&table)), Ok(()), "there is no such branch");
    let uuid = json!({"type": "assert-table-uuid", "uuid": UUID});
    assert_eq!(check(uuid, None), Err("42P01"));
}

#[test]
fn what_cannot_be_read_is_no_update() {
    let table = apply_updates(Some(&table()), URL, &append(7, 1, None)).unwrap();
    let column = |id: i32, name: &str| json!({"id": id, "name": name, "required": false, "type": "int"});
    let add = |fields: Value| {
        json!([{"action": "add-schema", "schema": {"type": "struct", "fields": fields}},
            {"action": "set-current-schema", "schema-id": -1}])
    };
    let mut of_version_3 = snapshot(8, 2, Some(7));
    of_version_3["first-row-id"] = json!(0);
    for (wrong, sqlstate) in [
        (json!([{"action": "upgrade-format-version", "format-version": 3}]), "0A000"),
        (json!([{"action": "add-snapshot", "snapshot": of_version_3}]), "0A000"),
        (json!([{"action": "set-location", "location": "s3://bucket/other"}]), "0A000"),
        (json!([{"action": "set-properties", "updates": {"write.update.mode": "merge-on-read"}}]), "0A000"),
        (
            json!([{"action": "set-properties", "updates": {"write.metadata.metrics.default": "truncate(4)"}}]),
            "0A000",
        ),
        (add(json!([column(4, "more")])), "22023"),
        (add(json!([column(1, "b"), column(4, "a")])), "0A000"),
        (add(json!([column(1, "a"), column(3, "more")])), "22023"),
        (add(json!([column(1, "a"), {"id": 4, "name": "more", "required": true, "type": "int"}])), "0A000"),
        (add(json!([{"id": 1, "name": "a", "required": true, "type": "long"}])), "0A000"),
        (
            json!([{"action": "add-spec", "spec": {"fields": [
                {"source-id": 1, "field-id": 1000, "name": "b", "transform": "bucket[4]"}]}}]),
            "22023",
        ),
        (add(json!([column(1, "a"), column(1, "b")])), "22023"),
        (add(json!([column(1, "a"), column(2, "a")])), "42701"),
        (add(json!([column(i32::MAX, "a")])), "22023"),
        (json!([{"action": "set-current-schema", "schema-id": -1}]), "22023"),
        (json!([{"action": "set-default-spec", "spec-id": 9}]), "22023"),
        (json!([{"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}]), "22023"),
        (
            json!([{"action": "set-statistics", "statistics": {"snapshot-id": 7,
            "statistics-path": format!("{URL}/../x.puffin")}}]),
            "42501",
        ),
    ] {
        let error = apply_updates(Some(&table), URL, &updates(wrong.clone())).unwrap_err();
        assert_eq!(error.sqlstate(), sqlstate, "{wrong}: {error}");
    }
    assert!(serde_json::from_value::<Update>(json!({"action": "add-encryption-key"})).is_err());
    // What files can be read as: fewer columns, other names, more columns, one that comes back.
    let less =
        apply_updates(Some(&table), URL, &updates(add(json!([column(1, "k"), column(4, "more")])))).unwrap();
    assert_eq!((less.current_schema_id, less.last_column_id), (1, 4));
    let back = json!([{"action": "set-current-schema", "schema-id": 0}]);
    assert_eq!(apply_updates(Some(&less), URL, &updates(back)).unwrap_err().sqlstate(), "0A000");
    let list = json!({"type": "list", "element-id": 3, "element-required": false, "element": "string"});
    let back = add(json!([column(1, "k"), {"id": 2, "name": "b", "required": false, "type": list}]));
    apply_updates(Some(&less), URL, &updates(back)).unwrap();
}

#[test]
fn an_empty_table_may_get_other_columns_and_a_spec_keeps_its_ids() {
    let table = table();
    let changed = json!([
        {"action": "add-schema", "schema": {"type": "struct", "fields": [
            {"id": 1, "name": "renamed", "required": true, "type": "long"},
            {"id": 4, "name": "day", "required": false, "type": "date"}]}},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": {"fields": [
            {"source-id": 1, "name": "a", "transform": "identity"},
            {"source-id": 4, "name": "month", "transform": "month"}]}},
        {"action": "set-default-spec", "spec-id": -1},
    ]);
    let changed = apply_updates(Some(&table), URL, &updates(changed)).unwrap();
    assert_eq!((changed.current_schema_id, changed.last_column_id), (1, 4));
    let ids: Vec<i32> = changed.default_spec().fields.iter().map(|field| field.field_id).collect();
    assert_eq!((ids, changed.last_partition_id), (vec![1000, 1001], 1001));
    // What the table has had before is not made twice.
    let again = json!([{"action": "add-schema", "schema": serde_json::to_value(&table.schemas[0]).unwrap()},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": {"fields": [{"source-id": 1, "name": "a", "transform": "identity"}]}},
        {"action": "set-default-spec", "spec-id": -1}]);
    let again = apply_updates(Some(&changed), URL, &updates(again)).unwrap();
    assert_eq!((again.current_schema_id, again.default_spec_id, again.schemas.len()), (0, 0, 2));
}
