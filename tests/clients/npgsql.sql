-- Npgsql 6 to 9, and so Power BI, Excel and .NET programs: what it asks at the first connection to a database, and what
-- DbConnection.GetSchema asks. Written after src/Npgsql/PostgresDatabaseInfo.cs and NpgsqlSchema.cs.

-- # version
SELECT version();
-- = "version" text

-- # types
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid
FROM (
    SELECT
        typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind,
        elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind,
        CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype
    FROM (
        SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid,
            CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype,
            CASE
                WHEN proc.proname='array_recv' THEN typ.typelem
                WHEN typ.typtype='r' THEN rngsubtype
                WHEN typ.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = typ.oid)
                WHEN typ.typtype='d' THEN typ.typbasetype
            END AS elemtypoid
        FROM pg_type AS typ
        LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
        LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive
        LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)
    ) AS typ
    LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid
    LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid)
    LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive
) AS t
JOIN pg_namespace AS ns ON (ns.oid = typnamespace)
WHERE
    typtype IN ('b', 'r', 'm', 'e', 'd') OR
    (typtype = 'c' AND relkind='c') OR
    (typtype = 'p' AND typname IN ('record', 'void', 'unknown')) OR
    (typtype = 'a' AND (
        elemtyptype IN ('b', 'r', 'm', 'e', 'd') OR
        (elemtyptype = 'p' AND elemtypname IN ('record', 'void')) OR
        (elemtyptype = 'c' AND elemrelkind='c')
    ))
ORDER BY CASE
       WHEN typtype IN ('b', 'e', 'p') THEN 0
       WHEN typtype = 'r' THEN 1
       WHEN typtype = 'm' THEN 2
       WHEN typtype = 'c' THEN 3
       WHEN typtype = 'd' AND elemtyptype <> 'a' THEN 4
       WHEN typtype = 'a' THEN 5
       WHEN typtype = 'd' AND elemtyptype = 'a' THEN 6
END;
-- = "nspname" name, "oid" oid, "typname" name, "typtype" char, "typnotnull" bool, "elemtypoid" oid

-- # fields of composite types
SELECT typ.oid, att.attname, att.atttypid
FROM pg_type AS typ
JOIN pg_namespace AS ns ON (ns.oid = typ.typnamespace)
JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid)
WHERE
  (typ.typtype = 'c' AND cls.relkind='c') AND
  attnum > 0 AND
  NOT attisdropped
ORDER BY typ.oid, att.attnum;
-- = "oid" oid, "attname" name, "atttypid" oid

-- # labels of enums
SELECT pg_type.oid, enumlabel
FROM pg_enum
JOIN pg_type ON pg_type.oid=enumtypid
ORDER BY oid, enumsortorder;
-- = "oid" oid, "enumlabel" name

-- # state of the server
SELECT pg_is_in_recovery();
-- = "pg_is_in_recovery" bool

-- # GetSchema Databases
SELECT d.datname, r.usename, d.encoding FROM pg_database d LEFT JOIN pg_user r ON r.usesysid = d.datdba;
-- = "datname" name, "usename" name, "encoding" int4

-- # GetSchema Schemata
SELECT * FROM (SELECT current_database() AS catalog_name, nspname AS schema_name, r.rolname AS schema_owner
FROM pg_namespace LEFT JOIN pg_roles r ON r.oid = pg_namespace.nspowner) t;
-- = "catalog_name" name, "schema_name" name, "schema_owner" name

-- # GetSchema Tables
-- $1 = 'shop'
SELECT table_catalog, table_schema, table_name, table_type
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'FOREIGN', 'FOREIGN TABLE') AND table_schema NOT IN ('pg_catalog', 'information_schema') AND table_schema = $1;
-- = "table_catalog" name, "table_schema" name, "table_name" name, "table_type" varchar

-- # GetSchema Columns
-- $1 = 'shop'
-- $2 = 'orders'
SELECT table_catalog, table_schema, table_name, column_name, ordinal_position, column_default, is_nullable,
  udt_name::regtype::text AS data_type, character_maximum_length, character_octet_length, numeric_precision,
  numeric_precision_radix, numeric_scale, datetime_precision, character_set_catalog, character_set_schema,
  character_set_name, collation_catalog
FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2;
-- = "table_catalog" name, "table_schema" name, "table_name" name, "column_name" name, "ordinal_position" int4, "column_default" varchar, "is_nullable" varchar, "data_type" text, "character_maximum_length" int4, "character_octet_length" int4, "numeric_precision" int4, "numeric_precision_radix" int4, "numeric_scale" int4, "datetime_precision" int4, "character_set_catalog" name, "character_set_schema" name, "character_set_name" name, "collation_catalog" name

-- # GetSchema Views
SELECT table_catalog, table_schema, table_name, check_option, is_updatable
FROM information_schema.views WHERE table_schema NOT IN ('pg_catalog', 'information_schema');
-- = "table_catalog" name, "table_schema" name, "table_name" name, "check_option" varchar, "is_updatable" varchar

-- # GetSchema Users
SELECT usename as user_name, usesysid as user_sysid FROM pg_catalog.pg_user;
-- = "user_name" name, "user_sysid" oid

-- # GetSchema Indexes
SELECT current_database() AS table_catalog, n.nspname AS table_schema, t.relname AS table_name, i.relname AS index_name, '' AS type_desc
FROM pg_class i
JOIN pg_index ix ON ix.indexrelid = i.oid
JOIN pg_class t ON ix.indrelid = t.oid
LEFT JOIN pg_user u ON u.usesysid = i.relowner
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind = 'i' AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND t.relkind = 'r' AND n.nspname = 'shop';
-- = "table_catalog" name, "table_schema" name, "table_name" name, "index_name" name, "type_desc" text

-- # GetSchema IndexColumns
SELECT current_database() AS constraint_catalog, t_ns.nspname AS constraint_schema, i.relname AS constraint_name,
  current_database() AS table_catalog, t_ns.nspname AS table_schema, t.relname AS table_name, a.attname AS column_name,
  a.attnum AS ordinal_position, t_ns.nspname AS index_schema, i.relname AS index_name
FROM pg_class i
JOIN pg_index ix ON ix.indexrelid = i.oid
JOIN pg_class t ON ix.indrelid = t.oid
JOIN pg_namespace t_ns ON t.relnamespace = t_ns.oid
JOIN pg_attribute a ON t.oid = a.attrelid AND a.attnum = ANY(ix.indkey)
WHERE i.relkind = 'i' AND t.relkind = 'r' AND t_ns.nspname = 'shop'
ORDER BY i.relname, a.attnum;
-- = "constraint_catalog" name, "constraint_schema" name, "constraint_name" name, "table_catalog" name, "table_schema" name, "table_name" name, "column_name" name, "ordinal_position" int2, "index_schema" name, "index_name" name

-- # GetSchema Constraints
SELECT current_database() AS constraint_catalog, pgn.nspname AS constraint_schema, pgc.conname AS constraint_name,
  current_database() AS table_catalog, pgtn.nspname AS table_schema, pgt.relname AS table_name, constraint_type,
  pgc.condeferrable AS is_deferrable, pgc.condeferred AS initially_deferred
FROM pg_catalog.pg_constraint pgc
INNER JOIN pg_catalog.pg_namespace pgn ON pgc.connamespace = pgn.oid
INNER JOIN pg_catalog.pg_class pgt ON pgc.conrelid = pgt.oid
INNER JOIN pg_catalog.pg_namespace pgtn ON pgt.relnamespace = pgtn.oid
INNER JOIN (
  SELECT 'PRIMARY KEY' AS constraint_type, 'p' AS contype
  UNION ALL SELECT 'FOREIGN KEY' AS constraint_type, 'f' AS contype
  UNION ALL SELECT 'UNIQUE KEY' AS constraint_type, 'u' AS contype
) mapping_table ON mapping_table.contype = pgc.contype
WHERE pgc.contype IN ('p', 'u', 'f') AND pgtn.nspname NOT IN ('pg_catalog', 'pg_toast');
-- = "constraint_catalog" name, "constraint_schema" name, "constraint_name" name, "table_catalog" name, "table_schema" name, "table_name" name, "constraint_type" text, "is_deferrable" bool, "initially_deferred" bool

-- # GetSchema ConstraintColumns
SELECT current_database() AS constraint_catalog, n.nspname AS constraint_schema, c.conname AS constraint_name,
  current_database() AS table_catalog, n.nspname AS table_schema, t.relname AS table_name, a.attname AS column_name,
  a.attnum AS ordinal_number, mapping_table.constraint_type
FROM pg_constraint c
JOIN pg_namespace n ON n.oid = c.connamespace
JOIN pg_class t ON t.oid = c.conrelid AND t.relkind = 'r'
JOIN pg_attribute a ON t.oid = a.attrelid AND a.attnum = ANY(c.conkey)
JOIN (
  SELECT 'PRIMARY KEY' AS constraint_type, 'p' AS contype
  UNION ALL SELECT 'UNIQUE KEY' AS constraint_type, 'u' AS contype
) mapping_table ON mapping_table.contype = c.contype
AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
ORDER BY conname, ordinal_number;
-- = "constraint_catalog" name, "constraint_schema" name, "constraint_name" name, "table_catalog" name, "table_schema" name, "table_name" name, "column_name" name, "ordinal_number" int2, "constraint_type" text

-- # column schema of a query
SELECT typ.oid AS typoid, nspname, relname, attname, attrelid, attnum, attnotnull, attidentity != '' AS isidentity,
  CASE WHEN typ.typtype = 'd' THEN typ.typtypmod ELSE atttypmod END AS typmod,
  CASE WHEN atthasdef THEN (SELECT pg_get_expr(adbin, cls.oid) FROM pg_attrdef WHERE adrelid = cls.oid AND adnum = attr.attnum) ELSE NULL END AS default,
  CASE WHEN col.is_updatable = 'YES' THEN true ELSE false END AS is_updatable,
  EXISTS (
    SELECT * FROM pg_index
    WHERE pg_index.indrelid = cls.oid AND pg_index.indisprimary AND attnum = ANY (indkey)
  ) AS isprimarykey,
  EXISTS (
    SELECT * FROM pg_index
    WHERE pg_index.indrelid = cls.oid AND pg_index.indisunique AND pg_index.indnkeyatts = 1 AND attnum = pg_index.indkey[0]
  ) AS isunique
FROM pg_attribute AS attr
JOIN pg_type AS typ ON attr.atttypid = typ.oid
JOIN pg_class AS cls ON cls.oid = attr.attrelid
JOIN pg_namespace AS ns ON ns.oid = cls.relnamespace
LEFT OUTER JOIN information_schema.columns AS col ON col.table_schema = nspname AND
  col.table_name = relname AND col.column_name = attname
WHERE atttypid <> 0 AND relkind IN ('r', 'v', 'm') AND NOT attisdropped AND nspname NOT IN ('pg_catalog', 'information_schema')
  AND attnum > 0 AND ((attr.attrelid={rel:shop.orders} AND attr.attnum=1) OR (attr.attrelid={rel:shop.orders} AND attr.attnum=2))
ORDER BY attnum;
-- = "typoid" oid, "nspname" name, "relname" name, "attname" name, "attrelid" oid, "attnum" int2, "attnotnull" bool, "isidentity" bool, "typmod" int4, "default" text, "is_updatable" bool, "isprimarykey" bool, "isunique" bool

