//! What clients really send, and what users must not notice.

use std::sync::Arc;

use datafusion::config::Dialect;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::catalog::{Browse, RelationKind};
use crate::engine::catalog_types::{CatalogTypes, shown};
use crate::error::{Error, Result};
use crate::function::{SessionFacts, oid};
use crate::system::tests::{Lake, context, printed, session};

/// Runs one statement as a session would: rewritten, its facts pinned, planned, executed.
async fn run(lake: &Arc<Lake>, session: &Arc<SessionFacts>, sql: &str) -> Result<(Vec<String>, Vec<String>)> {
    let state = context(lake, session).state();
    let state =
        SessionStateBuilder::new_from_existing(state).with_type_planner(Arc::new(CatalogTypes)).build();
    let context = SessionContext::new_with_state(state.clone());
    let mut parsed = state.sql_to_statement(sql, &Dialect::PostgreSQL)?;
    if let Parsed::Statement(statement) = &mut parsed {
        super::rewrite(statement);
        let browse: Arc<dyn Browse> = lake.clone();
        crate::system::prepare(statement, &browse, session, &state).await?;
    }
    let plan = state.statement_to_plan(parsed).await?;
    let plan = shown(plan, session)?;
    let frame = context.execute_logical_plan(plan).await?;
    let shown = |name: &String| super::display_name(name).to_owned();
    let names = frame.schema().fields().iter().map(|field| shown(field.name())).collect();
    Ok((names, printed(&frame.collect().await?)))
}

async fn rows(sql: &str) -> Result<Vec<String>> {
    Ok(run(&Lake::new(), &session(), sql).await?.1)
}

async fn names(sql: &str) -> Vec<String> {
    run(&Lake::new(), &session(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).0
}

/// Queries taken from the clients' own logs, each with the rows that our lake gives.
#[tokio::test]
async fn clients_get_their_answers() {
    let (lake, session) = (Lake::new(), session());
    let number = |schema, name| {
        oid::Assignment::default().assign_relation(&["relation", "lake", schema, name]).to_string()
    };
    let text = include_str!("clients.txt")
        .replace("{raw.airlines}", &number("raw", "airlines"))
        .replace("{raw.flights}", &number("raw", "flights"))
        .replace("{mart.late}", &number("mart", "late"));
    let mut wrong = vec![];
    for case in text.split("\n## ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (sql, wanted) = rest.split_once("\n----").unwrap();
        let mut wanted: Vec<&str> = wanted.lines().skip(1).collect();
        match run(&lake, &session, sql).await {
            Ok((_, rows)) => {
                let joined = rows.join("\n");
                let mut found: Vec<&str> = joined.lines().collect();
                if !sql.to_uppercase().contains("ORDER BY") {
                    found.sort_unstable();
                    wanted.sort_unstable();
                }
                if found != wanted {
                    wrong.push(format!("{title}\n{sql}\nwanted {wanted:#?}\nfound {found:#?}"));
                }
            }
            Err(error) => wrong.push(format!("{title}\n{sql}\n{error}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[tokio::test]
async fn columns_are_called_as_postgres_calls_them() {
    for (sql, wanted) in [
        ("SELECT 1, 1, NULL", vec!["?column?", "?column?", "?column?"]),
        ("SELECT count(*), max(id), max(id) FROM notes", vec!["count", "max", "max"]),
        ("SELECT id::text, note, id, id FROM notes", vec!["id", "note", "id", "id"]),
        ("SELECT '1'::int, CASE WHEN true THEN 1 END, ARRAY[1]", vec!["int4", "case", "array"]),
        ("SELECT *, id FROM notes", vec!["id", "note", "id"]),
        ("SELECT a.id, b.id FROM notes a, notes b", vec!["id", "id"]),
        ("SELECT count FROM (SELECT count(*) FROM notes) x", vec!["count"]),
        ("SELECT current_user, trim('a'), (SELECT max(id) FROM notes)", vec!["current_user", "btrim", "max"]),
        ("SELECT extract(year FROM dep), (tags)[1] FROM raw.flights", vec!["extract", "tags"]),
        ("SELECT 1 AS a, 2 AS a", vec!["a", "a"]),
    ] {
        assert_eq!(names(sql).await, wanted, "{sql}");
    }
}

#[tokio::test]
async fn a_given_name_hides_no_input_column() {
    let t = "(VALUES (1.6), (1.2), (2.9)) t(x)";
    // In HAVING and inside an expression of ORDER BY, x is the input; alone in ORDER BY it is the output.
    let having = format!("SELECT x::int FROM {t} GROUP BY x HAVING x < 1.5");
    assert_eq!(rows(&having).await.unwrap(), ["1"]);
    let order = format!("SELECT x::int FROM {t} ORDER BY -x");
    assert_eq!(rows(&order).await.unwrap().len(), 3);
    let distinct = format!("SELECT DISTINCT x::text FROM {t} ORDER BY x::text");
    assert_eq!(rows(&distinct).await.unwrap(), ["1.2", "1.6", "2.9"]);
    let position = "SELECT y, 1 FROM (VALUES (2), (1)) t(y) ORDER BY 1";
    assert_eq!(rows(position).await.unwrap(), ["1|1", "2|1"]);
    let count = format!("SELECT x > 1.5, count(*) FROM {t} GROUP BY x > 1.5 ORDER BY count(*)");
    assert_eq!(rows(&count).await.unwrap(), ["false|1", "true|2"]);
}

#[tokio::test]
async fn a_subquery_gives_one_value_or_an_error() {
    let tables = "WITH a(id) AS (VALUES (1), (2)), b(id, v) AS (VALUES (1, 'x'), (3, 'y'), (3, 'z'))";
    // The two rows of 3 are no one's business here.
    let one = format!("{tables} SELECT a.id, (SELECT b.v FROM b WHERE b.id = a.id) FROM a ORDER BY 1");
    assert_eq!(rows(&one).await.unwrap(), ["1|x", "2|"]);
    let filter = format!("{tables} SELECT a.id FROM a WHERE (SELECT b.v FROM b WHERE b.id = a.id) = 'x'");
    assert_eq!(rows(&filter).await.unwrap(), ["1"]);
    let two = format!("{tables} SELECT (SELECT b.v FROM b WHERE b.id = a.id + 2) FROM a");
    assert!(matches!(rows(&two).await, Err(Error::Cardinality(_))));
    let array =
        format!("{tables} SELECT ARRAY(SELECT b.v FROM b WHERE b.id = a.id + 2 ORDER BY 1 DESC) FROM a");
    let mut arrays = rows(&array).await.unwrap();
    arrays.sort();
    assert_eq!(arrays, ["[]", "[z, y]"]);
    let limited = "SELECT ARRAY(SELECT v FROM (VALUES (3), (1), (2)) t(v) ORDER BY v LIMIT 2)";
    assert_eq!(rows(limited).await.unwrap(), ["[1, 2]"]);
}

#[tokio::test]
async fn references_print_as_names_and_compare_as_numbers() {
    for (sql, wanted) in [
        ("SELECT 'raw.flights'::regclass", "raw.flights"),
        ("SELECT 'notes'::regclass", "notes"),
        ("SELECT 'pg_class'::regclass::oid", "1259"),
        ("SELECT 1259::regclass::text", "pg_class"),
        ("SELECT 'integer'::regtype, 'int4'::regtype::oid", "integer|23"),
        ("SELECT count(*) FROM pg_class WHERE oid = 'raw.flights'::regclass", "1"),
        ("SELECT to_regclass('nowhere')", ""),
        ("SELECT count(*) FROM pg_class WHERE relnamespace = 'raw'::regnamespace", "2"),
    ] {
        assert_eq!(rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")), [wanted], "{sql}");
    }
    let missing = rows("SELECT 'nowhere'::regclass").await;
    assert!(matches!(missing, Err(Error::TableNotFound(name)) if name == "nowhere"));
}

#[tokio::test]
async fn spellings_of_postgres_are_understood() {
    for (sql, wanted) in [
        ("SELECT 'abc' OPERATOR(pg_catalog.~) '^a' COLLATE pg_catalog.default", "true"),
        ("SELECT pg_catalog.lower('A'), current_schema, current_catalog", "a|public|lake"),
        ("SELECT '{a,\"b,c\",NULL}'::text[]", "[a, b,c, ]"),
        ("SELECT 2 = ANY('{1,2}'::int[]), 3 <> ALL(ARRAY[1,2])", "true|true"),
        (
            "SELECT 'abcdef'::varchar(3), 'a_c' LIKE 'a/_%' ESCAPE '/', 'abc' LIKE 'a/_%' ESCAPE '/'",
            "abc|true|false",
        ),
        ("SELECT s FROM generate_series(2, 2) s", "2"),
        ("SELECT generate_series(7, 7)", "7"),
        ("SELECT unnest FROM unnest(ARRAY[5])", "5"),
        ("SELECT format('%I.%s = %L', 'A', 1, 'x')", "\"A\".1 = 'x'"),
        ("SELECT array_to_string(ARRAY[1, NULL, 3], ',', '*')", "1,*,3"),
        ("SELECT set_config('application_name', 'me', false), current_setting('nothing', true)", "me|"),
        ("SELECT obj_description('raw.flights'::regclass), col_description(1, 1)", "all flights|"),
        ("SELECT (SELECT count(*) FROM pg_policy), (SELECT polname FROM pg_policy)", "0|"),
        ("WITH pg_policy AS (SELECT 'mine' AS polname) SELECT (SELECT polname FROM pg_policy)", "mine"),
    ] {
        assert_eq!(rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")), [wanted], "{sql}");
    }
}

/// What is not PostgreSQL's catalog is not touched.
#[test]
fn other_statements_are_left_as_they_are() {
    for sql in [
        "SELECT a, b AS c FROM t WHERE EXISTS (SELECT d FROM u WHERE u.x = t.x) ORDER BY a",
        "SELECT t.a FROM t WHERE t.a = (SELECT max(u.a) AS max FROM u WHERE u.x = t.x)",
        "SELECT t.a FROM t WHERE t.a = (SELECT u.a FROM u LIMIT 1)",
        "INSERT INTO t SELECT a FROM u WHERE a IN (1, 2)",
        "SELECT tableoid, attacl FROM my_attributes WHERE attacl IS NOT NULL",
        "SELECT a FROM s.pg_policy",
        "DELETE FROM t WHERE a = 'x'",
    ] {
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        super::rewrite(&mut parsed[0]);
        assert_eq!(parsed[0].to_string(), sql);
    }
}

#[tokio::test]
async fn two_tables_of_one_name_are_told_apart_by_the_path() {
    let (lake, session) = (Lake::new(), session());
    lake.add("mart", "notes", RelationKind::Managed, None);
    let sql = "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
               WHERE relname = 'notes' AND pg_table_is_visible(c.oid)";
    assert_eq!(run(&lake, &session, sql).await.unwrap().1, ["public"]);
    session.set_search_path(vec!["mart".to_owned(), "public".to_owned()]);
    assert_eq!(run(&lake, &session, sql).await.unwrap().1, ["mart"]);
}
