#!/usr/bin/env python3
"""Reads Iceberg tables from their folders through PyIceberg and prints their columns and rows as JSON.

One object a folder, in the order given: "columns", and "rows" as text (None for a null), sorted by the
column of field id 1.
"""

import json
import sys

from pyiceberg.table import StaticTable


def text(value):
    return None if value is None else str(value)


def rows(folder):
    table = StaticTable.from_metadata(folder)
    key = table.schema().find_column_name(1)
    read = table.scan().to_arrow().sort_by(key)
    listed = [[text(value) for value in row.values()] for row in read.to_pylist()]
    return {"columns": read.column_names, "rows": listed}


json.dump([rows(folder) for folder in sys.argv[1:]], sys.stdout)
