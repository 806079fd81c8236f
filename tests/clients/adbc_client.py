"""ADBC's PostgreSQL driver: Arrow in and out, by COPY in binary."""

import adbc_driver_postgresql.dbapi as adbc
import pyarrow
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal, soon


def main():
    connection = adbc.connect(URI, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        equal(cursor.fetchone(), (1,))
    done("connect")

    schema = connection.adbc_get_table_schema("airlines", db_schema_filter="raw")
    equal(schema.names, ["carrier", "name"])
    objects = connection.adbc_get_objects(depth="tables", db_schema_filter="raw").read_all().to_pylist()
    lake = [catalog for catalog in objects if catalog["catalog_name"] == CATALOG][0]
    tables = [table["table_name"] for schema in lake["catalog_db_schemas"] for table in schema["db_schema_tables"]]
    equal("flights" in tables, True)
    equal("raw" in str(connection.adbc_get_objects(depth="all", catalog_filter=CATALOG, db_schema_filter="raw", table_name_filter="airlines").read_all().to_pylist()), True)
    done("introspect")

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM raw.flights")
        table = cursor.fetch_arrow_table()
        equal(table.num_rows, 336776)
        cursor.execute("SELECT $1::int + 1, $2::text", (1, "ä"))
        equal(cursor.fetchone(), (2, "ä"))
        cursor.execute("SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::float8, 'x'::text, '\\x00ff'::bytea, "
                       "DATE '2020-02-29', TIMESTAMP '2020-01-02 03:04:05.678', TIMESTAMPTZ '2020-01-02 03:04:05+02', "
                       "-12.34::numeric(8,2), ARRAY[1, 2], NULL::int")
        equal(str(cursor.fetchone()[11]), "-12.34")
    done("read")

    data = pyarrow.table({
        "n": pyarrow.array([1, 2, None], pyarrow.int64()),
        "i": pyarrow.array([1, 2, None], pyarrow.int32()),
        "f": pyarrow.array([1.5, None, 3.0]),
        "s": pyarrow.array(["a", None, "ä"]),
        "b": pyarrow.array([True, None, False]),
        "d": pyarrow.array([0, 1, None], pyarrow.date32()),
        "at": pyarrow.array([0, 1, None], pyarrow.timestamp("us")),
        "zone": pyarrow.array([0, 1, None], pyarrow.timestamp("us", tz="UTC")),
        "r": pyarrow.array([b"\x00", None, b""]),
    })
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA client_adbc")
        for mode, wanted in [("create", 3), ("append", 6), ("replace", 3), ("create_append", 6)]:
            equal(cursor.adbc_ingest("t", data, mode=mode, db_schema_name="client_adbc"), 3)
            cursor.execute("SELECT count(*) FROM client_adbc.t")
            equal(cursor.fetchone(), (wanted,))
        cursor.execute("SELECT * FROM client_adbc.t ORDER BY n NULLS LAST LIMIT 1")
        equal(cursor.fetch_arrow_table().select(["n", "s", "b"]).to_pylist(), [{"n": 1, "s": "a", "b": True}])
        cursor.executemany("INSERT INTO client_adbc.t (n, s) VALUES ($1, $2)", [(10, "x"), (11, "y")])
        cursor.execute("SELECT count(*) FROM client_adbc.t WHERE n >= 10")
        equal(cursor.fetchone(), (2,))
    with adbc.connect(URI) as other:
        with other.cursor() as cursor:
            cursor.execute("DELETE FROM client_adbc.t")
            cursor.execute("SELECT count(*) FROM client_adbc.t")
            equal(cursor.fetchone(), (0,))
        other.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM client_adbc.t")
        equal(cursor.fetchone(), (8,))
    done("write")

    with connection.cursor() as cursor:
        soon(cursor.adbc_cancel)
        try:
            cursor.execute(LONG)
            cursor.fetchall()
            raise AssertionError("the query was not cancelled")
        except adbc.Error:
            pass
    done("cancel")
    # All rows above went by COPY.
    done("COPY")

    encrypted = adbc.connect(f"{URI}?sslmode=require")
    with encrypted.cursor() as cursor:
        cursor.execute("SELECT 1")
        equal(cursor.fetchone(), (1,))
    done("TLS")


main()
