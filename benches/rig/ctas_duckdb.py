"""Joins orders and lineitem into Parquet files, once, and says how that went.

Arguments: the folder of the tables, the folder to write into, the number of threads, and what to
write: `unpartitioned` or `monthly`. Prints seconds, rows, bytes, files and the peak of memory in bytes.
"""

import pathlib
import resource
import sys
import time

import duckdb

tables, output, threads, layout = sys.argv[1:5]
connection = duckdb.connect(config={"threads": int(threads)})
connection.execute("SET enable_progress_bar = false")
for table in ["orders", "lineitem"]:
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM '{tables}/{table}/*.parquet'")
join = "lineitem JOIN orders ON l_orderkey = o_orderkey"
began = time.perf_counter()
if layout == "monthly":
    connection.execute(
        f"COPY (SELECT *, CAST(date_trunc('month', o_orderdate) AS DATE) AS o_month FROM {join}) "
        f"TO '{output}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (o_month))"
    )
else:
    connection.execute(f"COPY (SELECT * FROM {join}) TO '{output}/all.parquet' (FORMAT parquet, COMPRESSION zstd)")
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
files = list(pathlib.Path(output).rglob("*.parquet"))
(rows,) = connection.execute(f"SELECT count(*) FROM '{output}/**/*.parquet'").fetchone()
print(seconds, rows, sum(file.stat().st_size for file in files), len(files), peak)
