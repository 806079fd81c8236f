"""DuckDB's turn of benches/merge.rs.

Arguments: how ("table": MERGE into a table of its own; "parquet": the rows of Parquet files, merged,
written anew), the definition of the target's and of the source's rows, a folder, and the number of
threads. Prints seconds, the rows of the result and the sum of their amounts.
"""

import sys
import time

import duckdb

how, target, source, folder, threads = sys.argv[1:]
connection = duckdb.connect(f"{folder}/merge.duckdb")
connection.execute(f"SET threads = {threads}")
# Its output is read by a program.
connection.execute("SET enable_progress_bar = false")
connection.execute(f"CREATE TABLE source AS {source}")
if how == "table":
    connection.execute(f"CREATE TABLE target AS {target}")
    connection.execute("CHECKPOINT")
    begin = time.perf_counter()
    connection.execute(
        "MERGE INTO target USING source ON target.id = source.id "
        "WHEN MATCHED THEN UPDATE SET amount = source.amount "
        "WHEN NOT MATCHED THEN INSERT (id, amount, name) VALUES (source.id, source.amount, source.name)"
    )
    seconds = time.perf_counter() - begin
    result = "target"
else:
    parts = "FORMAT parquet, COMPRESSION zstd, PER_THREAD_OUTPUT"
    connection.execute(f"COPY ({target}) TO '{folder}/before' ({parts})")
    merged = (
        f"SELECT t.id, coalesce(s.amount, t.amount) AS amount, t.name FROM '{folder}/before/*.parquet' AS t "
        "LEFT JOIN source AS s ON t.id = s.id UNION ALL SELECT s.id, s.amount, s.name FROM source AS s "
        f"ANTI JOIN '{folder}/before/*.parquet' AS t ON t.id = s.id"
    )
    begin = time.perf_counter()
    connection.execute(f"COPY ({merged}) TO '{folder}/after' ({parts})")
    seconds = time.perf_counter() - begin
    result = f"'{folder}/after/*.parquet'"
rows, amounts = connection.execute(f"SELECT count(*), sum(amount)::bigint FROM {result}").fetchone()
print(seconds, rows, amounts)
