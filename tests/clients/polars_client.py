"""polars: read_database_uri by connectorx and by ADBC, write_database by ADBC."""

import polars
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal


def main():
    equal(polars.read_database_uri("SELECT 1 AS n", URI, engine="adbc").item(), 1)
    done("connect")

    named = polars.read_database_uri(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'raw' AND table_name = 'airlines'", URI
    )
    equal(sorted(named["column_name"]), ["carrier", "name"])
    done("introspect")

    for engine in ("connectorx", "adbc"):
        frame = polars.read_database_uri("SELECT month, flight, origin, time_hour FROM raw.flights", URI, engine=engine)
        equal((frame.height, int(frame["month"].sum())), (336776, 2205381))
    split = polars.read_database_uri(
        "SELECT flight, month FROM raw.flights", URI, partition_on="month", partition_num=4, engine="connectorx"
    )
    equal(split.height, 336776)
    done("read")

    polars.read_database_uri("SELECT 1 AS n", URI, engine="adbc")
    import adbc_driver_postgresql.dbapi as adbc

    with adbc.connect(URI, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA client_polars")
    frame = polars.DataFrame({"n": [1, 2, 3], "s": ["a", None, "ä"], "f": [1.5, None, 2.0], "d": [None, None, None]}, schema_overrides={"d": polars.Date})
    for mode, wanted in [("fail", 3), ("append", 6), ("replace", 3)]:
        frame.write_database("client_polars.t", URI, engine="adbc", if_table_exists=mode)
        equal(polars.read_database_uri("SELECT count(*) AS n FROM client_polars.t", URI).item(), wanted)
    done("write")
    done("COPY")

    equal(polars.read_database_uri("SELECT 1 AS n", f"{URI}?sslmode=require", engine="adbc").item(), 1)
    done("TLS")


main()
