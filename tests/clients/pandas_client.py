"""pandas over SQLAlchemy and psycopg 3: read_sql, to_sql, reflection."""

import pandas
import sqlalchemy
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal, soon


def main():
    url = URI.replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        equal(connection.execute(sqlalchemy.text("SELECT 1")).scalar(), 1)
    done("connect")

    inspector = sqlalchemy.inspect(engine)
    equal("flights" in inspector.get_table_names("raw"), True)
    equal([column["name"] for column in inspector.get_columns("airlines", "raw")], ["carrier", "name"])
    done("introspect")

    frame = pandas.read_sql("SELECT month, count(*) AS n, avg(dep_delay) AS delay FROM raw.flights GROUP BY 1 ORDER BY 1", engine)
    equal((len(frame), int(frame["n"].sum())), (12, 336776))
    chunks = pandas.read_sql("SELECT flight FROM raw.flights LIMIT 2500", engine, chunksize=1000)
    equal([len(chunk) for chunk in chunks], [1000, 1000, 500])
    equal(len(pandas.read_sql_table("airlines", engine, schema="raw")), 16)
    done("read")

    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE SCHEMA client_pandas"))
    frame = pandas.DataFrame({
        "n": [1, 2, 3],
        "f": [1.5, None, -2.0],
        "s": ["a", None, "ä"],
        "b": [True, False, True],
        "at": [pandas.Timestamp("2020-01-02"), pandas.Timestamp("2020-02-29 03:04:05"), pandas.NaT],
    })
    frame.to_sql("t", engine, schema="client_pandas", index=False)
    frame.to_sql("t", engine, schema="client_pandas", index=False, if_exists="append", method="multi")
    frame.to_sql("u", engine, schema="client_pandas", if_exists="replace")
    frame.to_sql("u", engine, schema="client_pandas", if_exists="replace")
    back = pandas.read_sql("SELECT * FROM client_pandas.t ORDER BY n", engine)
    equal((len(back), int(back["n"].sum()), back["s"].isna().sum()), (6, 12, 2))
    equal(len(pandas.read_sql_table("u", engine, schema="client_pandas", index_col="index")), 3)
    done("write")

    with engine.connect() as connection:
        soon(connection.connection.dbapi_connection.cancel)
        try:
            pandas.read_sql(sqlalchemy.text(LONG), connection)
            raise AssertionError("the query was not cancelled")
        except pandas.errors.DatabaseError:
            pass
    done("cancel")

    def copied(table, connection, keys, rows):
        with connection.connection.cursor() as cursor:
            columns = ", ".join(f'"{key}"' for key in keys)
            with cursor.copy(f"COPY {table.schema}.{table.name} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)

    frame.to_sql("t", engine, schema="client_pandas", index=False, if_exists="append", method=copied)
    equal(int(pandas.read_sql("SELECT count(*) AS n FROM client_pandas.t", engine)["n"][0]), 9)
    done("COPY")

    encrypted = sqlalchemy.create_engine(url + "?sslmode=require")
    equal(int(pandas.read_sql("SELECT 1 AS n", encrypted)["n"][0]), 1)
    done("TLS")


main()
