-- What the statements of the clients are asked about: the same in Lacus and in PostgreSQL 15.
CREATE SCHEMA shop;
COMMENT ON SCHEMA shop IS 'what is sold';
CREATE TABLE shop.customers (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    email text UNIQUE,
    balance numeric(10,2) DEFAULT 0,
    active boolean DEFAULT true,
    born date,
    seen timestamp with time zone,
    tags text[],
    CONSTRAINT customers_credit CHECK (balance > -100)
);
COMMENT ON TABLE shop.customers IS 'who buys';
COMMENT ON COLUMN shop.customers.name IS 'as on the invoice';
INSERT INTO shop.customers (id, name, email) VALUES (1, 'Ada', 'ada@example.org'), (2, 'Grace', NULL);
CREATE TABLE shop.orders (
    customer bigint NOT NULL,
    number integer NOT NULL,
    placed timestamp without time zone,
    amount double precision,
    weight real,
    reference uuid,
    label bytea,
    opens time without time zone,
    note text DEFAULT 'none',
    PRIMARY KEY (customer, number)
);
INSERT INTO shop.orders (customer, number, amount) VALUES (1, 1, 9.5), (1, 2, 20), (2, 1, 0.5);
CREATE VIEW shop.big AS SELECT customer, amount FROM shop.orders WHERE amount > 5;
COMMENT ON VIEW shop.big IS 'orders that matter';
CREATE TABLE "Mixed Case" ("Id" integer, "two words" text);
