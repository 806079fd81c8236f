-- Grafana's PostgreSQL data source: its query builder, variables and health check. Written after
-- public/app/plugins/datasource/grafana-postgresql-datasource/postgresMetaQuery.ts and the macros of pkg/tsdb.

-- # health
SELECT 1;
-- = "?column?" int4

-- # version
SELECT current_setting('server_version_num')::int/100 as version;
-- = "version" int4

-- # TimescaleDB
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb';
-- = "extversion" text

-- # tables
SELECT quote_ident(table_name) AS "table" FROM information_schema.tables
WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache', '_timescaledb_catalog', '_timescaledb_internal', '_timescaledb_config', 'timescaledb_information', 'timescaledb_experimental')
AND quote_ident(table_schema) IN (
  SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
  FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                       array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
       string_to_array(current_setting('search_path'),',') s
)
ORDER BY table_name;
-- = "table" text

-- # tables of every schema
SELECT CASE WHEN quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                         array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
         string_to_array(current_setting('search_path'),',') s
  ) THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table"
FROM information_schema.tables
WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog')
ORDER BY 1;
-- = "table" text

-- # columns
SELECT quote_ident(column_name) AS "column", data_type AS "type"
FROM information_schema.columns
WHERE (CASE WHEN array_length(parse_ident('shop.orders'),1) = 2
  THEN quote_ident(table_schema) = (parse_ident('shop.orders'))[1] AND quote_ident(table_name) = (parse_ident('shop.orders'))[2]
  ELSE quote_ident(table_name) = 'shop.orders' END);
-- = "column" text, "type" varchar

-- # columns of a table on the path
SELECT quote_ident(column_name) AS "column", data_type AS "type"
FROM information_schema.columns
WHERE quote_ident(table_schema) IN (
  SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
  FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                       array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
       string_to_array(current_setting('search_path'),',') s
) AND quote_ident(table_name) = 'orders';
-- = "column" text, "type" varchar

-- # time columns first
SELECT quote_ident(column_name) FROM information_schema.columns
WHERE quote_ident(table_schema) = 'shop' AND quote_ident(table_name) = 'orders'
AND data_type IN ('timestamp without time zone','timestamp with time zone','bigint','integer','double precision','real')
ORDER BY CASE WHEN data_type LIKE 'timestamp%' THEN 0 ELSE 1 END, column_name LIMIT 1;
-- = "quote_ident" text

-- # metric columns
SELECT quote_ident(column_name) AS "column", quote_ident(data_type) AS "type" FROM information_schema.columns
WHERE data_type IN ('text','character','character varying','uuid') AND table_schema = 'shop' AND table_name = 'orders';
-- = "column" text, "type" text

-- # values of a column
SELECT DISTINCT quote_literal("note") FROM shop.orders ORDER BY 1 LIMIT 100;
-- = "quote_literal" text

-- # aggregates
SELECT DISTINCT lower(p.proname) AS name FROM pg_proc p INNER JOIN pg_aggregate a ON a.aggfnoid = p.oid
WHERE p.pronargs = 1 AND p.prorettype IN (20, 21, 23, 700, 701, 1700) AND p.proname = 'sum' ORDER BY 1;
-- = "name" text

-- # time series
SELECT floor(extract(epoch from "placed")/300)*300 AS "time", avg("amount") AS "amount"
FROM shop.orders
WHERE "placed" BETWEEN '2026-11-27T00:00:00Z' AND '2026-11-28T00:00:00Z'
GROUP BY 1 ORDER BY 1;
-- = "time" numeric, "amount" float8

-- # time series by an epoch
SELECT "placed" AS "time", "amount" FROM shop.orders
WHERE extract(epoch from "placed") >= 1764201600 AND extract(epoch from "placed") <= 1764288000 ORDER BY 1;
-- = "time" timestamp, "amount" float8

