"""Makes the reference answers of the 22 TPC-H queries, by DuckDB.

    LACUS_BENCH_SF=0.01 LACUS_BENCH_DATA=/some/folder cargo bench --bench tpch -- data
    python3 -m venv venv && venv/bin/pip install duckdb==2.0.0
    venv/bin/python tests/tpch/make_answers.py /some/folder/sf0.01/tpch

The argument holds a folder of Parquet files for each table, at scale factor 0.01. For each query one
file `answers/qN.txt`: the columns' names, then the rows, values separated by `|`. No value holds one.

DuckDB answers from DOUBLE where it divides and averages; the comparison allows for that in the digits
behind a decimal point. Rows stand in the order that the query asks for. A query whose order leaves two
rows in either order would make a test that fails by chance, so such ties are looked for, and refused.
"""

import pathlib
import sys

import duckdb

HERE = pathlib.Path(__file__).parent

# The columns, by position, that each query's ORDER BY names; the others have one row.
ORDERED_BY = {
    1: [0, 1], 2: [0, 2, 1, 3], 3: [1, 2], 4: [0], 5: [1], 7: [0, 1, 2], 8: [0], 9: [0, 1], 10: [2],
    11: [1], 12: [0], 13: [1, 0], 15: [0], 16: [3, 0, 1, 2], 18: [4, 3], 20: [0], 21: [1, 0], 22: [0],
}


def text(value) -> str:
    """A value as the answers hold it; a null is empty."""
    shown = "" if value is None else str(value)
    assert "|" not in shown and "\n" not in shown, shown
    return shown


def main(folder: str) -> None:
    connection = duckdb.connect()
    for table in sorted(pathlib.Path(folder).iterdir()):
        connection.execute(f"CREATE VIEW {table.name} AS FROM read_parquet('{table}/*.parquet')")
    for number in range(1, 23):
        query = (HERE / "queries" / f"q{number}.sql").read_text()
        answer = connection.execute(query)
        lines = ["|".join(column[0] for column in answer.description)]
        rows = answer.fetchall()
        keys = [tuple(row[column] for column in ORDERED_BY.get(number, [])) for row in rows]
        assert len(set(keys)) == len(rows) or len(rows) == 0, f"query {number} leaves rows in any order"
        lines += ["|".join(text(value) for value in row) for row in rows]
        (HERE / "answers" / f"q{number}.txt").write_text("\n".join(lines) + "\n")
        print(f"query {number}: {len(rows)} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
