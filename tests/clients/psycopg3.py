"""psycopg 3: text and binary, server-side cursors, pipelines and COPY."""

import datetime
import decimal
import uuid

import psycopg
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal, soon

VALUES = (
    7,
    -5_000_000_000,
    decimal.Decimal("-12.34"),
    1.5,
    "ä\U0001f985\t\\",
    True,
    datetime.date(2020, 2, 29),
    datetime.datetime(2020, 1, 2, 3, 4, 5, 678000),
    b"\x00\xff",
    uuid.UUID("6f1f0f2e-5d0b-4c0b-9b0a-1f2e3d4c5b6a"),
    [1, None, 3],
    None,
)
COLUMNS = "i int, b bigint, n numeric(8,2), f float8, s text, t boolean, d date, at timestamp, r bytea, u uuid, l int[], z text"


def main():
    connection = psycopg.connect(URI, autocommit=True)
    equal(connection.execute("SELECT 1").fetchone(), (1,))
    done("connect")

    named = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position LIMIT 2",
        ("raw", "airlines"),
    ).fetchall()
    equal(named, [("carrier", "text"), ("name", "text")])
    equal(psycopg.types.TypeInfo.fetch(connection, "int4").oid, 23)
    done("introspect")

    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        casts = "%s::int, %s::bigint, %s::numeric(8,2), %s::float8, %s::text, %s::bool, %s::date, %s::timestamp, %s::bytea, %s::uuid, %s::int[], %s::text"
        equal(cursor.execute(f"SELECT {casts}", VALUES).fetchone(), VALUES)
        count = cursor.execute("SELECT count(*) FROM raw.flights WHERE month = %s", (1,)).fetchone()
        equal(count, (27004,))
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(20)]
    equal([cursor.fetchone()[0] for cursor in cursors], list(range(20)))
    rows = sum(1 for _ in connection.cursor().stream("SELECT flight FROM raw.flights LIMIT 5000"))
    equal(rows, 5000)
    done("read")

    connection.execute("CREATE SCHEMA client_psycopg")
    connection.execute(f"CREATE TABLE client_psycopg.t ({COLUMNS})")
    slots = ", ".join(["%s"] * len(VALUES))
    with connection.transaction():
        cursor = connection.cursor()
        cursor.executemany(f"INSERT INTO client_psycopg.t VALUES ({slots})", [VALUES, (8,) + VALUES[1:]])
        equal(cursor.rowcount, 2)
    equal(connection.execute("SELECT * FROM client_psycopg.t ORDER BY i").fetchone(), VALUES)
    equal(connection.execute("UPDATE client_psycopg.t SET s = %s WHERE i = %s", ("x", 8)).rowcount, 1)
    equal(connection.execute("DELETE FROM client_psycopg.t WHERE i = %s RETURNING s", (8,)).fetchall(), [("x",)])
    try:
        with connection.transaction():
            connection.execute("DELETE FROM client_psycopg.t")
            connection.execute("SELECT 1 / 0")
    except psycopg.errors.DivisionByZero:
        pass
    equal(connection.execute("SELECT count(*) FROM client_psycopg.t").fetchone(), (1,))
    done("write")

    soon(connection.cancel_safe)
    try:
        connection.execute(LONG)
        raise AssertionError("the query was not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    done("cancel")

    types = ["int4", "int8", "numeric", "float8", "text", "bool", "date", "timestamp", "bytea", "uuid", "int4[]", "text"]
    for fmt in ("text", "binary"):
        cursor = connection.cursor()
        with cursor.copy(f"COPY client_psycopg.t FROM STDIN (FORMAT {fmt})") as copy:
            copy.set_types(types)
            for number in range(1000):
                copy.write_row((100 + number,) + VALUES[1:])
        equal(cursor.rowcount, 1000)
        with cursor.copy(f"COPY (SELECT * FROM client_psycopg.t WHERE i >= 100 ORDER BY i) TO STDOUT (FORMAT {fmt})") as copy:
            copy.set_types(types)
            rows = list(copy.rows())
        equal(len(rows), 1000)
        equal(rows[0], (100,) + VALUES[1:])
        connection.execute("DELETE FROM client_psycopg.t WHERE i >= 100")
    done("COPY")

    encrypted = psycopg.connect(f"{URI}?sslmode=require")
    equal(encrypted.pgconn.ssl_in_use, True)
    equal(encrypted.execute("SELECT 1").fetchone(), (1,))
    done("TLS")


main()
