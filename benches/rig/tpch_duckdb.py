"""DuckDB as a contestant: a query a line in, the number of its rows a line out.

Arguments: the folder that holds a folder of Parquet files for each table, and the number of threads.
"""

import os
import sys

import duckdb

folder, threads = sys.argv[1:]
connection = duckdb.connect()
connection.execute(f"SET threads = {int(threads)}")
for table in sorted(os.listdir(folder)):
    files = os.path.join(folder, table, "*.parquet").replace("'", "''")
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{files}')")
print("ready", flush=True)
for sql in sys.stdin:
    try:
        print(len(connection.execute(sql).fetchall()), flush=True)
    except duckdb.Error as error:
        print(str(error).replace("\n", " "), flush=True)
