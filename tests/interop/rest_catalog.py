#!/usr/bin/env python3
"""Uses a Lacus daemon's Iceberg REST catalog as other engines do.

rest_catalog.py URL STEP [ARGUMENT…] runs one step and prints what it saw as JSON. Needs PyPI's pyiceberg
and pyarrow, and for DuckDB duckdb with its extensions iceberg, avro and httpfs from PyPI.
"""

import json
import os
import sys
import threading
import uuid
from datetime import datetime

import pyarrow
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

from read_iceberg import load_extension


def catalog(url, **properties):
    return load_catalog("lake", type="rest", uri=url, warehouse="lake", **properties)


def rows(table):
    return sorted((tuple(row.values()) for row in table.scan().to_arrow().to_pylist()), key=str)


def numbers(*values):
    return pyarrow.table({"n": pyarrow.array(values, pyarrow.int64())})


def read(url):
    lake = catalog(url)
    far = lake.load_table("mart.far")
    return {
        "namespaces": [".".join(name) for name in lake.list_namespaces()],
        "tables": sorted(".".join(name) for name in lake.list_tables("mart")),
        "views": [".".join(name) for name in lake.list_views("mart")],
        "exists": [lake.table_exists("mart.far"), lake.table_exists("mart.near")],
        "rows": far.scan().to_arrow().num_rows,
        "filtered": far.scan(row_filter="month = 2").to_arrow().num_rows,
        "mode": far.properties["write.delete.mode"],
    }


def write(url):
    lake = catalog(url)
    lake.create_namespace("guest", {"comment": "what others write"})
    schema = Schema(
        NestedField(7, "city", StringType(), required=False),
        NestedField(9, "year", IntegerType(), required=True),
    )
    spec = PartitionSpec(PartitionField(9, 1000, IdentityTransform(), "year"))
    table = lake.create_table("guest.visits", schema, partition_spec=spec, properties={"comment": "by year"})
    arrow = pyarrow.schema(
        [pyarrow.field("city", pyarrow.string()), pyarrow.field("year", pyarrow.int32(), nullable=False)]
    )
    values = [{"city": "Ulm", "year": 2024}, {"city": "Bonn", "year": 2024}, {"city": None, "year": 2025}]
    table.append(pyarrow.Table.from_pylist(values, schema=arrow))
    table.append(pyarrow.Table.from_pylist([{"city": "Kiel", "year": 2026}], schema=arrow))
    table.delete("city = 'Bonn'")
    transaction = lake.create_table_transaction("guest.staged", numbers(1).schema)
    transaction.update_snapshot().fast_append()
    staged = transaction.commit_transaction()
    staged.append(numbers(1, 2, 3))
    lake.rename_table("guest.staged", "guest.kept")
    lake.create_table("guest.gone", numbers(1).schema)
    lake.drop_table("guest.gone")
    return {
        "visits": rows(lake.load_table("guest.visits")),
        "kept": rows(lake.load_table("guest.kept")),
        "tables": sorted(".".join(name) for name in lake.list_tables("guest")),
        "properties": lake.load_namespace_properties("guest"),
    }


def refused(url):
    """What a client may not do, and what it is told."""
    lake = catalog(url)
    table = lake.load_table("mart.marks")
    told = {}

    def attempt(name, action):
        try:
            action()
            told[name] = "allowed"
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"

    attempt("version 3", lambda: lake.create_table("mart.three", numbers(1).schema, properties={"format-version": "3"}))
    attempt("location", lambda: lake.create_table("mart.away", numbers(1).schema, location="file:///tmp/away"))
    attempt("exists", lambda: lake.create_table("mart.marks", numbers(1).schema))
    attempt("merge on read", lambda: table.transaction().set_properties({"write.delete.mode": "merge-on-read"}).commit_transaction())
    attempt("deletes", lambda: snapshot_of(table, entry(table, content=1)))
    attempt("outside", lambda: snapshot_of(table, entry(table, path="file:///etc/hostname")))
    attempt("other table", lambda: snapshot_of(table, entry(lake.load_table("mart.far"))))
    attempt("row count", lambda: snapshot_of(table, entry(table, rows=1000)))
    attempt("absent file", lambda: snapshot_of(table, entry(table, path=f"{table.location()}/data/none.parquet")))
    attempt("column", lambda: add_column(lake.load_table("mart.marks")))
    strict = lake.load_table("mart.strict")
    attempt("nulls", lambda: snapshot_of(strict, by_hand(strict, "nulls", [1, None], 1)))
    attempt("no ids", lambda: snapshot_of(table, by_hand(table, "bare", [1], None)))
    attempt("stale", lambda: stale(lake))
    return told


def add_column(table):
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.add_column("more", LongType(), required=True)


def evolve(url):
    """Changes columns and partitions of a table that has rows, and goes on writing to it."""
    lake = catalog(url)
    table = lake.load_table("mart.grown")
    with table.update_schema() as update:
        update.add_column("more", LongType())
        update.rename_column("name", "label")
        update.update_column("id", field_type=LongType())
        update.delete_column("spare")
        update.move_first("at")
    with table.update_spec() as update:
        update.add_field("id", IdentityTransform(), "id")
    append(table, 3, "three")
    append(table, 4, "four")
    with table.update_spec() as update:
        update.remove_field("id")
        update.add_field("id", BucketTransform(4), "shard")
    told = {}

    def attempt(name, change):
        try:
            with lake.load_table("mart.grown").update_schema(allow_incompatible_changes=True) as update:
                change(update)
            told[name] = "allowed"
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"

    attempt("required", lambda update: update.update_column("more", required=True))
    attempt("source", lambda update: update.delete_column("id"))
    attempt("key", lambda update: update.delete_column("label"))
    return {"rows": rows(lake.load_table("mart.grown")), "told": told}


def append(table, number, label):
    schema = pyarrow.schema(
        [("at", pyarrow.timestamp("us")), ("id", pyarrow.int64()), ("label", pyarrow.string()), ("more", pyarrow.int64())]
    )
    row = {"at": datetime(2026, number, 1), "id": number, "label": label, "more": number * 100}
    table.append(pyarrow.Table.from_pylist([row], schema=schema))


def ruled(url):
    """Appends to a table whose rows must be positive, and whose keys are its own."""
    told = []
    for values in ([10, 20], [30, -1], [40, 10], [50]):
        try:
            catalog(url).load_table("mart.ruled").append(numbers(*values))
            told.append("allowed")
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def by_hand(table, name, values, field_id):
    """A file of one column that no writer of Iceberg would make, in the table's folder."""
    from pyarrow import parquet

    metadata = {"PARQUET:field_id": str(field_id)} if field_id else None
    field = pyarrow.field("n", pyarrow.int64(), metadata=metadata)
    path = f"{table.location()}/data/{name}.parquet"
    made = path.removeprefix("file://")
    parquet.write_table(pyarrow.table([pyarrow.array(values, pyarrow.int64())], schema=pyarrow.schema([field])), made)
    return entry(table, path=path, rows=len(values), size=os.path.getsize(made))


def stale(lake):
    """Two commits that both follow the same snapshot; the client does not try again."""
    one, other = lake.load_table("mart.marks"), lake.load_table("mart.marks")
    one.append(numbers(100))
    from pyiceberg.table.update import AssertRefSnapshotId, SetPropertiesUpdate

    seen = other.metadata.current_snapshot_id
    lake.commit_table(other, (AssertRefSnapshotId(ref="main", snapshot_id=seen),), (SetPropertiesUpdate(updates={"x": "y"}),))


def entry(table, content=0, path=None, rows=None, size=None):
    """A data file of the table, described otherwise than it is."""
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    known = next(iter(table.scan().plan_files())).file
    return DataFile.from_args(
        content=DataFileContent(content),
        file_path=path or known.file_path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows or known.record_count,
        file_size_in_bytes=size or known.file_size_in_bytes,
    )


def snapshot_of(table, file):
    """Commits a snapshot that appends a file just as it is described."""
    with table.transaction() as transaction:
        with transaction.update_snapshot().fast_append() as append:
            append.append_data_file(file)


def race(url, count):
    lake = catalog(url)
    lake.create_namespace_if_not_exists("guest")
    lake.create_table("guest.race", numbers(1).schema, properties={"commit.retry.num-retries": "30"})
    failures = []

    def append(writer):
        table = catalog(url).load_table("guest.race")
        for n in range(int(count)):
            for _attempt in range(50):
                try:
                    table.append(numbers(writer * 1000 + n))
                    break
                except CommitFailedException:
                    table.refresh()
            else:
                failures.append(writer)

    threads = [threading.Thread(target=append, args=(writer,)) for writer in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return {"failures": failures, "rows": sorted(n for (n,) in rows(lake.load_table("guest.race")))}


def login(url, credential, wrong):
    def attempt(**properties):
        try:
            return [".".join(name) for name in catalog(url, **properties).list_namespaces()]
        except Exception as error:
            return type(error).__name__

    user, password = credential.split(":")
    basic = {"type": "basic", "basic": {"username": user, "password": password}}
    return {
        "token": attempt(credential=credential),
        "basic": attempt(auth=basic),
        "wrong": attempt(credential=wrong),
        "nobody": attempt(),
        "forged": attempt(token=uuid.uuid4().hex),
    }


def duckdb(url):
    import duckdb

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    try:
        for name in ("httpfs", "avro", "iceberg"):
            load_extension(connection, name)
    except duckdb.Error as error:
        return {"skipped": str(error)}
    connection.execute(f"ATTACH 'lake' AS lake (TYPE iceberg, ENDPOINT '{url}', AUTHORIZATION_TYPE 'none')")
    tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'mart'")
    seen = {"tables": sorted(name for (name,) in tables.fetchall())}
    seen["sum"] = connection.execute("SELECT sum(n) FROM lake.mart.marks").fetchone()[0]
    seen["join"] = connection.execute(
        "SELECT count(*) FROM lake.mart.far JOIN lake.mart.marks ON n = month"
    ).fetchone()[0]
    connection.execute("INSERT INTO lake.mart.marks VALUES (1000), (2000)")
    connection.execute("CREATE TABLE lake.mart.ducks AS SELECT 7 AS legs, 'Erpel' AS name")
    seen["after"] = connection.execute("SELECT sum(n) FROM lake.mart.marks").fetchone()[0]
    return seen


if __name__ == "__main__":
    step = {"read": read, "write": write, "refused": refused, "race": race, "login": login, "duckdb": duckdb, "evolve": evolve, "ruled": ruled}
    print(json.dumps(step[sys.argv[2]](sys.argv[1], *sys.argv[3:]), default=str))
