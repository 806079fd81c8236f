"""psqlODBC by pyodbc: catalog functions, parameters, transactions."""

import datetime
import decimal
import os

import pyodbc
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal, soon

DRIVER = os.environ.get("LACUS_TEST_ODBC", "PostgreSQL Unicode")


def text(tls):
    return f"DRIVER={{{DRIVER}}};SERVER={HOST};PORT={PORT};DATABASE={CATALOG};UID={USER};PWD=;SSLmode={tls}"


def main():
    connection = pyodbc.connect(text("disable"), autocommit=True)
    cursor = connection.cursor()
    equal(cursor.execute("SELECT 1").fetchone()[0], 1)
    done("connect")

    tables = [row.table_name for row in cursor.tables(schema="raw")]
    equal("flights" in tables, True)
    equal([row.column_name for row in cursor.columns(table="airlines", schema="raw")], ["carrier", "name"])
    cursor.primaryKeys("airlines", schema="raw").fetchall()
    cursor.statistics("airlines", schema="raw").fetchall()
    equal(len(cursor.getTypeInfo().fetchall()) > 10, True)
    done("introspect")

    values = [7, decimal.Decimal("-12.34"), 1.5, "ä'\\", datetime.date(2020, 2, 29), datetime.datetime(2020, 1, 2, 3, 4, 5)]
    row = cursor.execute("SELECT ?::int, ?::numeric(8,2), ?::float8, ?::text, ?::date, ?::timestamp", values).fetchone()
    equal(list(row), values)
    rows = cursor.execute("SELECT flight FROM raw.flights LIMIT 2000").fetchall()
    equal(len(rows), 2000)
    done("read")

    cursor.execute("CREATE SCHEMA client_odbc")
    cursor.execute("CREATE TABLE client_odbc.t (n int, s text, p numeric(8,2), at timestamp)")
    rows = [(number, f"row {number}", decimal.Decimal(number), datetime.datetime(2020, 1, 2)) for number in range(20)]
    cursor.executemany("INSERT INTO client_odbc.t VALUES (?, ?, ?, ?)", rows)
    connection.autocommit = False
    equal(cursor.execute("DELETE FROM client_odbc.t WHERE n < ?", 10).rowcount, 10)
    connection.rollback()
    connection.autocommit = True
    equal(cursor.execute("SELECT count(*) FROM client_odbc.t").fetchone()[0], 20)
    done("write")

    soon(cursor.cancel)
    try:
        cursor.execute(LONG)
        raise AssertionError("the query was not cancelled")
    except pyodbc.Error:
        pass
    equal(cursor.execute("SELECT 2").fetchone()[0], 2)
    done("cancel")

    encrypted = pyodbc.connect(text("require"), autocommit=True)
    equal(encrypted.cursor().execute("SELECT 1").fetchone()[0], 1)
    done("TLS")


main()
