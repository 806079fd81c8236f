"""psycopg2: named cursors, execute_values and COPY."""

import datetime
import decimal
import io

import psycopg2
import psycopg2.extras
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal, soon


def main():
    connection = psycopg2.connect(URI)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    equal(cursor.fetchone(), (1,))
    done("connect")

    cursor.execute("SELECT * FROM raw.airlines LIMIT 0")
    equal([column.name for column in cursor.description], ["carrier", "name"])
    cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'raw' ORDER BY 1")
    equal(cursor.fetchone(), ("airlines",))
    done("introspect")

    values = (
        7,
        decimal.Decimal("-12.34"),
        1.5,
        "ä'\\",
        True,
        datetime.date(2020, 2, 29),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 678000),
        [1, 2],
        None,
    )
    cursor.execute("SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s", values)
    equal(cursor.fetchone(), values)
    cursor.execute("SELECT %s::bytea", (psycopg2.Binary(b"\x00\xff"),))
    equal(cursor.fetchone()[0].tobytes(), b"\x00\xff")
    psycopg2.extras.register_uuid()
    cursor.execute("SELECT '6f1f0f2e-5d0b-4c0b-9b0a-1f2e3d4c5b6a'::uuid, INTERVAL '1 day 2 seconds'")
    equal(cursor.fetchone()[1], datetime.timedelta(days=1, seconds=2))
    done("read")

    cursor.execute("CREATE SCHEMA client_psycopg2; CREATE TABLE client_psycopg2.t (n int, s text)")
    rows = [(number, f"row {number}") for number in range(500)]
    psycopg2.extras.execute_values(cursor, "INSERT INTO client_psycopg2.t VALUES %s", rows, page_size=200)
    psycopg2.extras.execute_batch(cursor, "INSERT INTO client_psycopg2.t VALUES (%s, %s)", [(-1, None), (-2, "x")])
    connection.autocommit = False
    cursor.execute("DELETE FROM client_psycopg2.t")
    equal(cursor.rowcount, 502)
    connection.rollback()
    connection.autocommit = True
    cursor.execute("SELECT count(*), count(s) FROM client_psycopg2.t")
    equal(cursor.fetchone(), (502, 501))
    done("write")

    soon(connection.cancel)
    try:
        cursor.execute(LONG)
        raise AssertionError("the query was not cancelled")
    except psycopg2.errors.QueryCanceled:
        pass
    done("cancel")

    cursor.copy_expert("COPY client_psycopg2.t FROM STDIN CSV HEADER", io.StringIO("n,s\n1000,\n1001,\"a,b\"\n"))
    equal(cursor.rowcount, 2)
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM client_psycopg2.t WHERE n >= 1000 ORDER BY n) TO STDOUT", out)
    equal(out.getvalue(), "1000\t\\N\n1001\ta,b\n")
    cursor.execute("SET search_path = client_psycopg2")
    cursor.copy_from(io.StringIO("2000|x\n"), "t", sep="|")
    try:
        cursor.copy_from(io.StringIO("1\tx\ny\tx\n"), "t")
        raise AssertionError("a bad row was taken")
    except psycopg2.errors.InvalidTextRepresentation as error:
        equal(error.diag.context, 'COPY t, line 2, column n: "y"')
    done("COPY")

    encrypted = psycopg2.connect(f"{URI}?sslmode=require")
    equal(encrypted.info.ssl_in_use, True)
    done("TLS")


main()
