"""Reflects the tables of setup.sql with SQLAlchemy in every way it has, then maps one and writes to it.

Usage: sqlalchemy_reflect.py URL

The URL names the driver: postgresql+psycopg://ada@127.0.0.1:5433/lake (psycopg2 and asyncpg do too).
Prints `name: value` lines.
"""

import asyncio
import sys

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope


def main(url: str) -> None:
    if "asyncpg" not in url:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            reflect(connection)
        round_trip(engine)
        return
    asyncio.run(through_asyncpg(url))


async def through_asyncpg(url: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(reflect)
    async with engine.begin() as connection:
        await connection.run_sync(rows)
    await engine.dispose()


def show(name: str, value: object) -> None:
    print(f"{name}: {value}")


def reflect(connection: sa.Connection) -> None:
    about = sa.inspect(connection)
    show("version", connection.dialect.server_version_info[0])
    show("default schema", about.default_schema_name)
    show("schemas", sorted(about.get_schema_names()))
    show("tables", sorted(about.get_table_names("shop")))
    show("default tables", sorted(about.get_table_names()))
    show("views", sorted(about.get_view_names("shop")))
    show("materialized views", about.get_materialized_view_names("shop"))
    show("temporary tables", about.get_temp_table_names())
    show("temporary views", about.get_temp_view_names())
    show("foreign tables", about.get_foreign_table_names("shop"))
    show("sequences", about.get_sequence_names("shop"))
    show("enums", about.get_enums("*"))
    show("domains", [one["name"] for one in about.get_domains("shop")])
    show("has table", [about.has_table(name, schema="shop") for name in ("orders", "big", "nothing")])
    show("has sequence", about.has_sequence("nothing", schema="shop"))
    show("has index", about.has_index("customers", "nothing", schema="shop"))
    show("view", " ".join((about.get_view_definition("big", "shop") or "").split()))
    show("table oid", about.get_table_oid("orders", "shop") > 0)
    for table in ("customers", "orders", "big"):
        for column in about.get_columns(table, "shop"):
            kept = {key: str(column.get(key)) for key in ("name", "type", "nullable", "default", "comment")}
            show(f"column of {table}", kept)
        show(f"primary key of {table}", about.get_pk_constraint(table, "shop"))
        show(f"unique of {table}", about.get_unique_constraints(table, "shop"))
        show(f"check of {table}", [one["name"] for one in about.get_check_constraints(table, "shop")])
        show(f"foreign keys of {table}", about.get_foreign_keys(table, "shop"))
        show(f"indexes of {table}", [one["name"] for one in about.get_indexes(table, "shop")])
        show(f"comment of {table}", about.get_table_comment(table, "shop"))
    kinds = {"kind": ObjectKind.ANY, "scope": ObjectScope.ANY}
    for method in (
        about.get_multi_columns,
        about.get_multi_pk_constraint,
        about.get_multi_unique_constraints,
        about.get_multi_check_constraints,
        about.get_multi_foreign_keys,
        about.get_multi_indexes,
        about.get_multi_table_comment,
    ):
        show(method.__name__, sorted(name for (_, name), _ in method("shop", **kinds).items()))
    known = sa.MetaData()
    known.reflect(connection, schema="shop", views=True)
    show("reflected", {name: [column.name for column in table.columns] for name, table in known.tables.items()})
    mixed = sa.Table("Mixed Case", sa.MetaData(), autoload_with=connection)
    show("mixed case", [column.name for column in mixed.columns])


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    __table_args__ = {"schema": "shop"}
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    name: orm.Mapped[str]
    price: orm.Mapped[float | None]


def round_trip(engine: sa.Engine) -> None:
    """Makes a table from a mapped class, writes, changes, reads and removes objects, drops the table."""
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all([Item(id=1, name="pen", price=1.5), Item(id=2, name="ink", price=None)])
        session.commit()
        pen = session.get(Item, 1)
        pen.price = 2.5
        session.commit()
        found = session.execute(sa.select(Item.name, Item.price).order_by(Item.id)).all()
        show("orm", [tuple(row) for row in found])
        session.delete(session.get(Item, 2))
        session.rollback()
        session.delete(session.get(Item, 2))
        session.commit()
        show("orm left", session.scalar(sa.select(sa.func.count()).select_from(Item)))
    with engine.connect() as connection:
        rows(connection)
    Base.metadata.drop_all(engine)
    show("dropped", not sa.inspect(engine).has_table("items", schema="shop"))


def rows(connection: sa.Connection) -> None:
    found = connection.execute(sa.text("SELECT id, name FROM shop.customers WHERE id = :id"), {"id": 2}).all()
    show("rows", [tuple(row) for row in found])


if __name__ == "__main__":
    main(sys.argv[1])
