#!/usr/bin/env python3
"""Reads an Iceberg table from its path alone, through other engines, and prints what they see as JSON.

The path is a table's folder (found through metadata/version-hint.text) or one metadata file. For each
engine: its version, the columns with their types, the number of rows, and per column the sum (of
numbers) or the smallest and largest value, with the number of nulls. An engine that is not installed,
or fails, is an "error" under its name; the exit status is 1 if one that was asked for with --engine
failed.

Needs PyPI's pyiceberg and pyarrow, and for DuckDB duckdb with duckdb-extension-iceberg and
duckdb-extension-avro of the same version (or a DuckDB that can download its extensions).
"""

import argparse
import decimal
import glob
import importlib
import json
import os
import sys


def summary(table):
    """What one Arrow table holds, column by column, in values that JSON has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    for field in table.schema:
        column = table.column(field.name)
        about = {"type": str(field.type), "nulls": column.null_count}
        kind = field.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            about["sum"] = plain(pc.sum(column).as_py())
        elif not pa.types.is_nested(kind):
            values = [value for value in column.to_pylist() if value is not None]
            about["min"] = plain(min(values, default=None))
            about["max"] = plain(max(values, default=None))
        else:
            about["first"] = plain(column[0].as_py() if len(column) else None)
        columns[field.name] = about
    return {"rows": table.num_rows, "columns": columns}


def plain(value):
    """A value as JSON: numbers stay, decimals become exact text, the rest becomes readable text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def pyiceberg(path, properties):
    import pyiceberg
    from pyiceberg.table import StaticTable

    table = StaticTable.from_metadata(path, properties)
    result = summary(table.scan().to_arrow())
    fields = table.schema().fields
    result["version"] = pyiceberg.__version__
    result["comment"] = table.properties.get("comment")
    result["schema"] = [
        {"id": field.field_id, "name": field.name, "type": str(field.field_type),
         "required": field.required, "doc": field.doc}
        for field in fields
    ]
    result["partition"] = [f"{field.name}: {field.transform}" for field in table.spec().fields]
    result["snapshots"] = [
        {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}
        for snapshot in table.snapshots()
    ]
    result["files"] = table.inspect.files().num_rows
    result["partitions"] = [plain(row["partition"]) for row in table.inspect.files().to_pylist()]
    result["bounds"] = [plain(row["readable_metrics"]) for row in table.inspect.files().to_pylist()]
    result["entries"] = sorted(row["status"] for row in table.inspect.entries().to_pylist())
    return result


def duckdb(path, _properties):
    import duckdb

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in ("avro", "iceberg"):
        load_extension(connection, name)
    relation = connection.sql(f"SELECT * FROM iceberg_scan('{path}')")
    result = summary(relation.to_arrow_table())
    result["version"] = duckdb.__version__
    files = connection.sql(f"SELECT count(*) FROM iceberg_metadata('{path}') WHERE status <> 'DELETED'")
    result["files"] = files.fetchone()[0]
    return result


def load_extension(connection, name):
    """Loads an extension of DuckDB from its PyPI package, or else from DuckDB's own host."""
    try:
        package = importlib.import_module(f"duckdb_extension_{name}")
        folder = os.path.dirname(package.__file__)
        (extension,) = glob.glob(f"{folder}/extensions/*/{name}.duckdb_extension")
        connection.execute(f"LOAD '{extension}'")
    except ImportError:
        connection.execute(f"INSTALL {name}")
        connection.execute(f"LOAD {name}")


ENGINES = {"pyiceberg": pyiceberg, "duckdb": duckdb}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", help="a table's folder, or a metadata file; a path or a URL")
    parser.add_argument("--engine", action="append", choices=ENGINES,
                        help="must succeed; may be given more than once (default: try all)")
    parser.add_argument("--property", action="append", default=[], metavar="NAME=VALUE",
                        help="for PyIceberg's file access, such as s3.endpoint=http://127.0.0.1:9000")
    arguments = parser.parse_args()
    properties = dict(item.split("=", 1) for item in arguments.property)
    results, failed = {}, False
    for name in arguments.engine or ENGINES:
        try:
            results[name] = ENGINES[name](arguments.path, properties)
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            failed = failed or arguments.engine is not None
    json.dump(results, sys.stdout, indent=1, default=str)
    print()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
