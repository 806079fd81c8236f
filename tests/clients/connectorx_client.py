"""connectorx: its binary, cursor, csv and simple protocols, and partitioned reads."""

import connectorx
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal


def main():
    equal(connectorx.read_sql(URI, "SELECT 1 AS n", return_type="arrow").num_rows, 1)
    done("connect")

    meta = connectorx.get_meta(URI, "SELECT * FROM raw.airlines")
    equal(list(meta.columns), ["carrier", "name"])
    done("introspect")

    query = "SELECT flight, month, origin, dep_delay, time_hour FROM raw.flights"
    for protocol in ("binary", "cursor", "csv", "simple"):
        frame = connectorx.read_sql(URI, query, protocol=protocol, return_type="pandas")
        equal((len(frame), int(frame["month"].sum())), (336776, 2205381))
    table = connectorx.read_sql(URI, query, partition_on="month", partition_num=3, return_type="arrow")
    equal(table.num_rows, 336776)
    types = ("SELECT true AS a, 1::smallint AS b, 2::int AS c, 3::bigint AS d, 1.5::real AS e, 2.5::float8 AS f, -12.34::numeric(8,2) AS g, "
             "'x'::text AS h, '\\x00ff'::bytea AS i, DATE '2020-02-29' AS j, TIME '12:00:01' AS k, TIMESTAMP '2020-01-02 03:04:05.678' AS l, "
             "TIMESTAMPTZ '2020-01-02 03:04:05+02' AS m, '6f1f0f2e-5d0b-4c0b-9b0a-1f2e3d4c5b6a'::uuid AS n, ARRAY[1, 2]::int[] AS o")
    equal(len(connectorx.read_sql(URI, types, return_type="pandas").columns), 15)
    done("read")
    # By the csv protocol, above, and the binary one.
    done("COPY")

    equal(len(connectorx.read_sql(f"{URI}?sslmode=require", "SELECT 1 AS n")), 1)
    done("TLS")


main()
