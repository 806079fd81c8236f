//! What clients ask of the catalog: their own statements replayed, and the clients themselves.
//!
//! `tests/clients/*.sql` holds the statements of each client with their source. A statement stands behind
//! `-- # title` and its parameters (`-- $1 = 'x'`); behind it stand the columns that PostgreSQL 15 gives
//! (`-- = "name" type, …`) for the same tables, those of `setup.sql`, or the error that it raises
//! (`-- ! 42725`). `{rel:shop.orders}` is the oid of that relation, and `{schema:…}`, `{db:…}`, `{con:…}` alike.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::TryStreamExt;
use tokio_postgres::Client;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::daemon::{Catalogs, Daemon, Setup, rows};
use crate::interop::python;

/// Statements that are not answered yet, by file and title, with the reason.
const MISSING: [(&str, &str, &str); 12] = [
    ("psql_completion.sql", "completion 160", "a function in FROM named by its alias"),
    ("grafana.sql", "tables", "generate_series over subqueries in FROM"),
    ("grafana.sql", "tables of every schema", "generate_series over subqueries in FROM"),
    ("grafana.sql", "columns of a table on the path", "generate_series over subqueries in FROM"),
    ("npgsql.sql", "column schema of a query", "a correlated subquery in CASE"),
    ("pgadmin.sql", "columns properties.sql", "a correlated subquery beside DISTINCT ON"),
    ("pgadmin.sql", "indexes nodes.sql", "a correlated subquery beside DISTINCT ON"),
    ("pgadmin.sql", "indexes properties.sql", "a correlated subquery beside DISTINCT ON"),
    ("pgadmin.sql", "pg properties.sql (2)", "a name that a join repeats"),
    ("pgadmin.sql", "triggers properties.sql", "a function with a list of keywords"),
    ("pgadmin.sql", "dependents.sql dependents.sql", "IN with a subquery inside CASE"),
    ("psycopg.sql", "psycopg 5", "coalesce of an array and a text"),
];

/// Types that Lacus sends another for, which the clients read alike.
const ALIKE: [(&str, &[&str]); 8] = [
    (
        "text",
        &[
            "name", "varchar", "char", "json", "pg_lsn", "inet", "interval", "oid", "int4", "int8", "_text",
            "_oid",
        ],
    ),
    // A reference shows as the name that it prints, which is a text.
    ("text", &["regclass", "regproc", "regprocedure", "regtype"]),
    ("int8", &["int4", "oid", "regproc", "regoperator"]),
    ("name", &["text"]),
    ("json", &["record"]),
    ("float8", &["numeric"]),
    ("numeric", &["int8"]),
    ("_text", &["_name"]),
];

#[derive(Debug, Default)]
struct Statement {
    title: String,
    parameters: Vec<Option<String>>,
    sql: String,
    /// The columns in PostgreSQL, written as in the file.
    columns: Option<String>,
    error: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn statements(file: &Path) -> Vec<Statement> {
    let text = std::fs::read_to_string(file).expect("the statements can be read");
    text.split("\n-- # ").skip(1).map(statement).collect()
}

fn statement(text: &str) -> Statement {
    let (title, rest) = text.split_once('\n').expect("a statement follows its title");
    let mut read = Statement { title: title.to_owned(), ..Statement::default() };
    for line in rest.lines() {
        if let Some(value) = line.strip_prefix("-- $").and_then(|line| line.split_once(" = ")) {
            let quoted = value.1.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
            read.parameters.push(quoted.map(|value| value.replace("''", "'")));
        } else if let Some(columns) = line.strip_prefix("-- = ") {
            read.columns = Some(columns.to_owned());
        } else if let Some(code) = line.strip_prefix("-- ! ") {
            read.error = Some(code.trim().to_owned());
        } else {
            read.sql.push_str(line);
            read.sql.push('\n');
        }
    }
    read.sql = read.sql.trim().trim_end_matches(';').to_owned();
    read
}

/// A parameter as a driver sends it that knows no type: as text.
#[derive(Debug)]
struct Text(Option<String>);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.0 {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The oids of what the placeholders name.
struct Oids<'a> {
    client: &'a Client,
    known: HashMap<String, String>,
}

impl Oids<'_> {
    async fn fill(&mut self, text: &str) -> String {
        let mut filled = text.to_owned();
        for kind in ["rel", "schema", "db", "con"] {
            let opening = format!("{{{kind}:");
            while let Some(at) = filled.find(&opening) {
                let end = at + filled[at..].find('}').expect("a placeholder ends");
                let name = filled[at + opening.len()..end].to_owned();
                let oid = self.oid(kind, &name).await;
                filled.replace_range(at..=end, &oid);
            }
        }
        filled
    }

    async fn oid(&mut self, kind: &str, name: &str) -> String {
        if let Some(known) = self.known.get(&format!("{kind}:{name}")) {
            return known.clone();
        }
        let bare = name.replace('"', "");
        let (schema, relation) = bare.split_once('.').unwrap_or(("", &bare));
        let sql = match kind {
            "rel" => format!(
                "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = '{schema}' AND c.relname = '{relation}'"
            ),
            "schema" => format!("SELECT oid FROM pg_namespace WHERE nspname = '{bare}'"),
            "db" => format!("SELECT oid FROM pg_database WHERE datname = '{bare}'"),
            _ => format!("SELECT oid FROM pg_constraint WHERE conname = '{bare}'"),
        };
        let found = rows(self.client, &sql).await;
        let oid = found.first().and_then(|row| row[0].clone()).unwrap_or_else(|| panic!("{kind} {name}"));
        self.known.insert(format!("{kind}:{name}"), oid.clone());
        oid
    }
}

/// Runs a statement as drivers do; gives its columns, or the error's SQLSTATE and message.
async fn ask(
    client: &Client,
    statement: &Statement,
    oids: &mut Oids<'_>,
) -> Result<String, (String, String)> {
    let failed = |error: tokio_postgres::Error| {
        let code = error.code().map_or_else(String::new, |code| code.code().to_owned());
        let message =
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        (code, message)
    };
    let sql = oids.fill(&statement.sql).await;
    let prepared = client.prepare(&sql).await.map_err(failed)?;
    let mut parameters = vec![];
    for parameter in &statement.parameters {
        parameters.push(Text(match parameter {
            Some(text) => Some(oids.fill(text).await),
            None => None,
        }));
    }
    let found = client.query_raw(&prepared, parameters).await.map_err(failed)?;
    found.try_for_each(|_| async { Ok(()) }).await.map_err(failed)?;
    let columns = prepared.columns().iter().map(|column| {
        let name = serde_json::to_string(column.name()).expect("a name is a text");
        format!("{name} {}", column.type_().name())
    });
    Ok(columns.collect::<Vec<_>>().join(", "))
}

/// Splits `"name" type, …`; a name is quoted as in JSON.
fn columns(text: &str) -> Vec<(String, String)> {
    let (mut found, mut rest) = (vec![], text);
    while !rest.is_empty() {
        let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = names.next().expect("a column has a name").expect("the name is quoted");
        let after = &rest[names.byte_offset()..];
        let (ty, next) = after.split_once(", ").unwrap_or((after, ""));
        found.push((name, ty.trim().to_owned()));
        rest = next;
    }
    found
}

fn is_alike(postgres: &str, lacus: &str) -> bool {
    postgres == lacus || ALIKE.iter().any(|(sent, wanted)| *sent == lacus && wanted.contains(&postgres))
}

async fn with_tables() -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let setup = std::fs::read_to_string(folder().join("setup.sql")).expect("the set-up can be read");
    rows(&daemon.connect("lake").await, &setup).await;
    (catalogs, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_of_a_client_is_answered() {
    let (_catalogs, daemon) = with_tables().await;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension().is_some_and(|extension| extension == "sql") && !file.ends_with("setup.sql")
    });
    files.sort();
    let mut wrong = vec![];
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let client = daemon.connect("lake").await;
        let mut oids = Oids { client: &client, known: HashMap::new() };
        let (mut count, mut answered, mut exact) = (0, 0, 0);
        for statement in statements(&file) {
            count += 1;
            let missing = MISSING.iter().any(|(file, title, _)| *file == name && *title == statement.title);
            match (ask(&client, &statement, &mut oids).await, &statement.columns, &statement.error) {
                (Ok(found), Some(wanted), _) => {
                    answered += 1;
                    exact += usize::from(found == *wanted);
                    let (found, wanted) = (columns(&found), columns(wanted));
                    let alike = found.len() == wanted.len()
                        && found.iter().zip(&wanted).all(|(found, wanted)| {
                            found.0.eq_ignore_ascii_case(&wanted.0) && is_alike(&wanted.1, &found.1)
                        });
                    if !alike {
                        wrong.push(format!("{name} # {}: {found:?}, not {wanted:?}", statement.title));
                    }
                }
                (Err((code, _)), _, Some(wanted)) if code == *wanted => answered += 1,
                (Err((code, message)), ..) if !missing => {
                    wrong.push(format!("{name} # {}: {code}: {message}", statement.title));
                }
                (Ok(_), None, _) => wrong.push(format!("{name} # {}: no error", statement.title)),
                _ => {}
            }
        }
        println!("{name}: {answered} of {count} answered, {exact} with PostgreSQL's very types");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs psql on commands, one after another; gives what it printed, errors among it.
fn psql(daemon: &Daemon, commands: &[&str]) -> Option<String> {
    let port = daemon.address.port().to_string();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "ada", "lake"]);
    for command in commands {
        psql.args(["-c", command]);
    }
    let Ok(ran) = psql.env("PAGER", "cat").output() else {
        println!("skipped: there is no psql");
        return None;
    };
    Some(format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)))
}

/// `psql.txt` holds commands behind `> ` and what psql prints for them.
#[tokio::test(flavor = "multi_thread")]
async fn psql_describes_what_there_is() {
    let (_catalogs, daemon) = with_tables().await;
    let text = std::fs::read_to_string(folder().join("psql.txt")).unwrap();
    let (mut wrong, mut printed) = (vec![], String::new());
    for case in text.split("\n> ").skip(1) {
        let (command, wanted) = case.split_once('\n').unwrap_or((case, ""));
        let Some(found) = psql(&daemon, &[command]) else { return };
        let trimmed =
            |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned();
        printed.push_str(&format!("\n> {command}\n{}\n", trimmed(&found)));
        if trimmed(&found) != trimmed(wanted) {
            wrong.push(format!("{command}\n{found}"));
        }
    }
    if let Ok(path) = std::env::var("LACUS_TEST_PRINTED") {
        std::fs::write(path, printed).unwrap();
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every command that describes something, with and without `+` and `S`.
#[tokio::test(flavor = "multi_thread")]
async fn psql_describes_everything_without_an_error() {
    let (_catalogs, daemon) = with_tables().await;
    let plain = "d dt dv di dm ds dE dP dn df da dA dAc dAf dAo dAp db dc dC dd dD des det deu dew dF dFd dFp dFt dg \
                 dl dL do dO dRp dRs dT du dx dX dy l";
    let mut commands: Vec<String> = plain.split_whitespace().map(|name| format!("\\{name}")).collect();
    commands.extend(plain.split_whitespace().filter(|name| *name != "dRp").map(|name| format!("\\{name}+")));
    let system = "d dt dv di df da dn dc dd dL do dO dT du dg dp";
    commands.extend(system.split_whitespace().map(|name| format!("\\{name}S")));
    commands.extend(
        [
            "\\ddp",
            "\\dp",
            "\\z",
            "\\drds",
            "\\dconfig",
            "\\dconfig+ *time*",
            "\\sf upper(text)",
            "\\sv shop.big",
        ]
        .map(str::to_owned),
    );
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let Some(printed) = psql(&daemon, &commands) else { return };
    let errors: Vec<&str> = printed.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

fn printed_by(mut command: Command) -> Option<String> {
    let ran = command.output().expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if err.contains("ModuleNotFoundError") {
        println!("skipped: {}", err.lines().last().unwrap_or_default());
        return None;
    }
    assert!(ran.status.success(), "{out}\n{err}");
    Some(out.into_owned())
}

/// The lines that a program must print, whatever else it prints.
fn assert_prints(printed: &str, wanted: &[&str]) {
    let missing: Vec<&&str> =
        wanted.iter().filter(|line| !printed.lines().any(|one| one == **line)).collect();
    assert!(missing.is_empty(), "missing {missing:#?} in\n{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_reflects_and_maps() {
    let (_catalogs, daemon) = with_tables().await;
    for driver in ["psycopg", "psycopg2"] {
        let Some(mut command) = python() else { return };
        let url = format!("postgresql+{driver}://ada@127.0.0.1:{}/lake", daemon.address.port());
        command.arg(folder().join("python/sqlalchemy_reflect.py")).arg(url);
        let Some(printed) = printed_by(command) else { continue };
        assert_prints(
            &printed,
            &[
                "version: 15",
                "tables: ['customers', 'orders']",
                "views: ['big']",
                "has table: [True, True, False]",
                "comment of customers: {'text': 'who buys'}",
                "check of customers: ['customers_credit']",
                "indexes of customers: ['customers_email_key']",
                "primary key of orders: {'constrained_columns': ['customer', 'number'], 'name': 'orders_pkey', \
                 'comment': None, 'dialect_options': {'postgresql_include': []}}",
                "mixed case: ['Id', 'two words']",
                "rows: [(2, 'Grace')]",
            ],
        );
        assert_prints(&printed, &["orm: [('pen', 2.5), ('ink', None)]", "orm left: 1", "dropped: True"]);
    }
}

/// `LACUS_TEST_PGJDBC` names the driver's jar; without it, or without java, this is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn pgjdbc_tells_all_about_the_database() {
    let Some(jar) = std::env::var_os("LACUS_TEST_PGJDBC").filter(|jar| !jar.is_empty()) else {
        println!("skipped: LACUS_TEST_PGJDBC names no driver");
        return;
    };
    if Command::new("java").arg("-version").output().is_err() {
        println!("skipped: there is no java");
        return;
    }
    let (_catalogs, daemon) = with_tables().await;
    let url = format!("jdbc:postgresql://127.0.0.1:{}/lake?user=ada", daemon.address.port());
    let mut java = Command::new("java");
    java.arg("-cp").arg(jar).arg(folder().join("java/Metadata.java")).arg(url);
    let Some(printed) = printed_by(java) else { return };
    assert_prints(
        &printed,
        &[
            "failures: 0",
            "  lake|shop|orders|customer|1|orders_pkey",
            "  lake|shop|orders|number|2|orders_pkey",
            "  customers|false|customers_email_key|1|email",
            "  customers|name|12|text|2147483647|0|0|as on the invoice|null|2|NO|NO",
            "  shop|big|VIEW|orders that matter",
            "  2|id|-5|int8|19|null|0|1",
            "array parameter: 1",
            "parameter: _int8",
        ],
    );
}
