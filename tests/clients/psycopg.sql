-- psycopg 3.3.9: lookups of types, from the log of PostgreSQL 15.

-- # psycopg 1
-- $1 = 'hstore'
SELECT
    typname AS name, oid, typarray AS array_oid,
    oid::regtype::text AS regtype, typdelim AS delimiter
FROM pg_type t
WHERE t.oid = to_regtype($1)
ORDER BY t.oid;
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "delimiter" char

-- # psycopg 2
-- $1 = 'text'
SELECT
    typname AS name, oid, typarray AS array_oid,
    oid::regtype::text AS regtype, typdelim AS delimiter
FROM pg_type t
WHERE t.oid = to_regtype($1)
ORDER BY t.oid;
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "delimiter" char

-- # psycopg 3
-- $1 = 'shop.customers'
SELECT
    typname AS name, oid, typarray AS array_oid,
    oid::regtype::text AS regtype, typdelim AS delimiter
FROM pg_type t
WHERE t.oid = to_regtype($1)
ORDER BY t.oid;
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "delimiter" char

-- # psycopg 4
-- $1 = 'mood'
SELECT name, oid, array_oid, regtype, array_agg(label) AS labels
FROM (
    SELECT
        t.typname AS name, t.oid AS oid, t.typarray AS array_oid,
        t.oid::regtype::text AS regtype, e.enumlabel AS label
    FROM pg_type t
    LEFT JOIN  pg_enum e
    ON e.enumtypid = t.oid
    WHERE t.oid = to_regtype($1)
    ORDER BY e.enumsortorder
) x
GROUP BY name, oid, array_oid, regtype;
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "labels" _name

-- # psycopg 5
-- $1 = 'shop.orders'
SELECT
    t.typname AS name, t.oid AS oid, t.typarray AS array_oid,
    t.oid::regtype::text AS regtype,
    coalesce(a.fnames, '{}') AS field_names,
    coalesce(a.ftypes, '{}') AS field_types
FROM pg_type t
LEFT JOIN (
    SELECT
        attrelid,
        array_agg(attname) AS fnames,
        array_agg(atttypid) AS ftypes
    FROM (
        SELECT a.attrelid, a.attname, a.atttypid
        FROM pg_attribute a
        JOIN pg_type t ON t.typrelid = a.attrelid
        WHERE t.oid = to_regtype($1)
        AND a.attnum > 0
        AND NOT a.attisdropped
        ORDER BY a.attnum
    ) x
    GROUP BY attrelid
) a ON a.attrelid = t.typrelid
WHERE t.oid = to_regtype($1);
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "field_names" _name, "field_types" _oid

-- # psycopg 6
-- $1 = 'int4range'
SELECT t.typname AS name, t.oid AS oid, t.typarray AS array_oid,
    t.oid::regtype::text AS regtype,
    r.rngsubtype AS subtype_oid
FROM pg_type t
JOIN pg_range r ON t.oid = r.rngtypid
WHERE t.oid = to_regtype($1);
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "subtype_oid" oid

-- # psycopg 7
-- $1 = 'int4multirange'
SELECT t.typname AS name, t.oid AS oid, t.typarray AS array_oid,
    t.oid::regtype::text AS regtype,
    r.rngtypid AS range_oid, r.rngsubtype AS subtype_oid
FROM pg_type t
JOIN pg_range r ON t.oid = r.rngmultitypid
WHERE t.oid = to_regtype($1);
-- = "name" name, "oid" oid, "array_oid" oid, "regtype" text, "range_oid" oid, "subtype_oid" oid

-- # psycopg 8
-- $1 = 'shop.orders'
-- $2 = '1'
-- $3 = '{1,2}'
SELECT $1::regclass, $2 = ANY($3);
-- = "regclass" regclass, "?column?" bool

