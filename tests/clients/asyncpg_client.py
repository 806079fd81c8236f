"""asyncpg: everything in binary, prepared statements, cursors and COPY."""

import asyncio
import datetime
import decimal
import io
import ssl
import uuid

import asyncpg
from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal


async def main():
    connection = await asyncpg.connect(URI)
    equal(await connection.fetchval("SELECT 1"), 1)
    done("connect")

    statement = await connection.prepare("SELECT carrier, name FROM raw.airlines WHERE carrier = $1")
    equal([column.name for column in statement.get_attributes()], ["carrier", "name"])
    equal([parameter.name for parameter in statement.get_parameters()], ["text"])
    tables = await connection.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = $1", "raw")
    equal("flights" in [row["table_name"] for row in tables], True)
    done("introspect")

    values = [
        7,
        -5_000_000_000,
        decimal.Decimal("-12.34"),
        1.5,
        "ä\t\\",
        True,
        datetime.date(2020, 2, 29),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 678000),
        datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=40, seconds=3),
        b"\x00\xff",
        uuid.UUID("6f1f0f2e-5d0b-4c0b-9b0a-1f2e3d4c5b6a"),
        [1, None, 3],
        None,
    ]
    casts = ["int", "bigint", "numeric(8,2)", "float8", "text", "bool", "date", "timestamp", "timestamptz"]
    casts += ["interval", "bytea", "uuid", "int[]", "text"]
    slots = ", ".join(f"${index + 1}::{cast}" for index, cast in enumerate(casts))
    equal(list(await connection.fetchrow(f"SELECT {slots}", *values)), values)
    async with connection.transaction():
        count = 0
        async for _ in connection.cursor("SELECT flight FROM raw.flights LIMIT 2000", prefetch=300):
            count += 1
        equal(count, 2000)
    done("read")

    await connection.execute("CREATE SCHEMA client_asyncpg; CREATE TABLE client_asyncpg.t (n int, s text, p numeric(8,2), at timestamptz)")
    now = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    rows = [(number, f"row {number}", decimal.Decimal(number) / 4, now) for number in range(50)]
    await connection.executemany("INSERT INTO client_asyncpg.t VALUES ($1, $2, $3, $4)", rows)
    equal(await connection.execute("UPDATE client_asyncpg.t SET s = $1 WHERE n < $2", "x", 10), "UPDATE 10")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DELETE FROM client_asyncpg.t")
    await transaction.rollback()
    equal(await connection.fetchval("SELECT count(*) FROM client_asyncpg.t"), 50)
    equal(await connection.fetchval("INSERT INTO client_asyncpg.t (n) VALUES (99) RETURNING n"), 99)
    done("write")

    try:
        await connection.fetch(LONG, timeout=1)
        raise AssertionError("the query was not cancelled")
    except asyncio.TimeoutError:
        pass
    equal(await connection.fetchval("SELECT 2"), 2)
    done("cancel")

    copied = await connection.copy_records_to_table("t", records=rows, schema_name="client_asyncpg")
    equal(copied, "COPY 50")
    copied = await connection.copy_to_table("t", source=io.BytesIO(b"1000;a\n"), schema_name="client_asyncpg", columns=["n", "s"], delimiter=";")
    equal(copied, "COPY 1")
    out = io.BytesIO()
    equal(await connection.copy_from_query("SELECT n, s FROM client_asyncpg.t WHERE n >= $1", 1000, output=out, format="csv"), "COPY 1")
    equal(out.getvalue(), b"1000,a\n")
    out = io.BytesIO()
    equal(await connection.copy_from_table("t", schema_name="client_asyncpg", output=out, format="binary"), "COPY 102")
    done("COPY")

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    encrypted = await asyncpg.connect(URI, ssl=context)
    equal(await encrypted.fetchval("SELECT 1"), 1)
    done("TLS")


asyncio.run(main())
