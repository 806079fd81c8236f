"""Server cursors, pipelines, notifications and transactions of Python's drivers, as they come from PyPI.

    manners.py PORT

Each driver that is not installed is skipped, with a line that says so.
"""

import asyncio
import sys

PORT = int(sys.argv[1])
URL = f"host=127.0.0.1 port={PORT} user=ada dbname=lake"


def psycopg_cursors(psycopg):
    with psycopg.connect(URL) as connection:
        with connection.cursor(name='Far "away"') as cursor:
            cursor.itersize = 1000
            cursor.execute("SELECT n FROM generate_series(1, 20000) AS t(n) WHERE n <= %s ORDER BY n", (10_000,))
            assert cursor.description[0].name == "n"
            assert sum(row[0] for row in cursor) == 50_005_000
        with connection.cursor(name="back", scrollable=True) as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 100) AS t(n) ORDER BY n")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            cursor.scroll(-2)
            assert cursor.fetchone() == (2,)
            cursor.scroll(99, mode="absolute")
            assert cursor.fetchall() == [(100,)]
        with connection.cursor(name="binary", binary=True) as cursor:
            cursor.execute("SELECT 'ä'::text, -5::bigint, NULL::date")
            assert cursor.fetchone() == ("ä", -5, None)
        held = connection.cursor(name="held", withhold=True)
        held.execute("SELECT n FROM generate_series(1, 5) AS t(n) ORDER BY n")
        assert held.fetchone() == (1,)
        connection.commit()
        assert held.fetchall() == [(2,), (3,), (4,), (5,)]
        held.close()
        try:
            connection.cursor(name="none").execute("SELECT nothing")
        except psycopg.errors.UndefinedColumn:
            connection.rollback()
        else:
            raise AssertionError("the query of a cursor is checked when it is declared")


def psycopg_pipeline(psycopg):
    with psycopg.connect(URL, autocommit=True) as connection:
        with connection.pipeline() as pipeline:
            first = connection.execute("SELECT %s::int + 1", (41,))
            second = connection.execute("SELECT name FROM raw.airlines WHERE carrier = %s", ("UA",))
            pipeline.sync()
            assert first.fetchone() == (42,) and second.fetchone() == ("United Air Lines Inc.",)
            try:
                connection.execute("SELECT 1 / 0")
                connection.execute("SELECT 1")
                pipeline.sync()
            except psycopg.errors.DivisionByZero:
                pass
            else:
                raise AssertionError("a pipeline tells its error")
        assert connection.execute("SELECT 2").fetchone() == (2,)
        notices = []
        connection.add_notice_handler(lambda notice: notices.append(notice.severity))
        connection.execute("DROP TABLE IF EXISTS nothing")
        assert notices == ["NOTICE"], notices


def psycopg_notifications(psycopg):
    with psycopg.connect(URL, autocommit=True) as one, psycopg.connect(URL) as other:
        one.execute("LISTEN news")
        other.execute("SELECT pg_notify('news', %s)", ("hello",))
        other.commit()
        heard = next(one.notifies(timeout=10, stop_after=1))
        assert (heard.channel, heard.payload, heard.pid) == ("news", "hello", other.info.backend_pid)
    options = "-c search_path=raw -c application_name=manners -c datestyle=ISO,DMY"
    with psycopg.connect(URL, options=options) as connection:
        assert connection.execute("SELECT count(*) FROM airlines").fetchone() == (16,)
        assert connection.info.parameter_status("application_name") == "manners"
        assert connection.info.parameter_status("DateStyle") == "ISO, DMY"
        # Parameters whose types the client leaves open.
        row = connection.execute(
            "SELECT %s::uuid, %s::jsonb, %s::float8, %s::int[], %s::date, %s IS NULL",
            ("5b0ae6a4-2a58-4d5c-bd1a-9a7b8f3a4c11", '{"a": 1}', 1.5, [1, None, 3], "2013-01-02", None),
        ).fetchone()
        airlines = "SELECT count(*) FROM airlines WHERE carrier = ANY(%s)"
        assert connection.execute(airlines, (["UA", "B6", None],)).fetchone() == (2,)
        assert str(row[0]).startswith("5b0ae6a4") and row[2:4] == (1.5, [1, None, 3]) and row[5], row


def psycopg2_cursors(psycopg2):
    connection = psycopg2.connect(URL)
    cursor = connection.cursor(name="far")
    cursor.itersize = 500
    cursor.execute("SELECT n FROM generate_series(1, 2000) AS t(n) ORDER BY n")
    assert sum(row[0] for row in cursor) == 2_001_000
    cursor.close()
    connection.commit()
    connection.close()


async def asyncpg_cursors(asyncpg):
    connection = await asyncpg.connect(host="127.0.0.1", port=PORT, user="ada", database="lake")
    heard = asyncio.Event()
    await connection.add_listener("news", lambda *told: heard.set())
    async with connection.transaction():
        cursor = await connection.cursor("SELECT n FROM generate_series(1, 500) AS t(n) WHERE n <= $1 ORDER BY n", 100)
        assert [row["n"] for row in await cursor.fetch(2)] == [1, 2]
        assert await cursor.forward(10) == 10
        assert (await cursor.fetchrow())["n"] == 13
        total = 0
        async for row in connection.cursor("SELECT n FROM generate_series(1, 500) AS t(n)", prefetch=50):
            total += row["n"]
        assert total == 125_250
        await connection.execute("SELECT pg_notify('news', 'x')")
    await asyncio.wait_for(heard.wait(), 10)
    try:
        async with connection.transaction():
            async with connection.transaction():
                await connection.fetchval("SELECT 1 / $1::int", 0)
    except asyncpg.DivisionByZeroError:
        pass
    assert await connection.fetchval("SELECT $1::int + $2", 40, 2) == 42
    many = "SELECT count(*) FROM raw.airports WHERE faa = ANY($1)"
    assert await connection.fetchval(many, ["JFK", "LGA", None]) == 2
    await connection.close()


def asyncpg_all(asyncpg):
    asyncio.run(asyncpg_cursors(asyncpg))


CHECKS = [
    ("psycopg", [psycopg_cursors, psycopg_pipeline, psycopg_notifications]),
    ("psycopg2", [psycopg2_cursors]),
    ("asyncpg", [asyncpg_all]),
]

for name, checks in CHECKS:
    try:
        driver = __import__(name)
    except ImportError:
        print(f"skipped: no {name}")
        continue
    for check in checks:
        check(driver)
