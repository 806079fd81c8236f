//! The queries of psql, its tab completion and common drivers, over a small lake.

use std::sync::Arc;
use datafusion::sql::parser::Statement as Parsed;
use crate::error::Result;
use crate::function::SessionFacts;
use crate::system::tests::{Lake, context, printed, session};

/// Runs one statement as a session would: rewritten, its facts pinned, planned, executed.
async fn run(lake: &Arc<Lake>, session: &Arc<SessionFacts>, sql: &str) -> Result<(Vec<String>, Vec<String>)> {
    let context = context(lake, session);
    let state = context.state();
    let mut parsed = state.sql_to_statement(sql, &datafusion::config::Dialect::PostgreSQL)?;
    if let Parsed::Statement(statement) = &mut parsed {
        super::rewrite(statement);
        let browse: Arc<dyn crate::catalog::Browse> = lake.clone();
        crate::system::prepare(statement, &browse, session).await?;
        if std::env::var("SHOW").is_ok() { eprintln!("=> {statement}"); }
    }
    let plan = state.statement_to_plan(parsed).await?;
    let frame = context.execute_logical_plan(plan).await?;
    let names = frame.schema().fields().iter().map(|field| super::display_name(field.name()).to_owned()).collect();
    Ok((names, printed(&frame.collect().await?)))
}

#[tokio::test]
async fn scratch() {
    let lake = Lake::new();
    let session = session();
    let mut bad = 0;
    for file in std::env::var("FILES").unwrap_or_default().split(' ').filter(|f| !f.is_empty()) {
        let text = std::fs::read_to_string(file).unwrap();
        for sql in text.split("\n--\n") {
            match run(&lake, &session, sql).await {
                Ok((names, rows)) => {
                    println!("OK {}\n   {:?}", sql.lines().next().unwrap(), names);
                    for row in rows.iter().take(6) { println!("   {row}"); }
                }
                Err(e) => { bad += 1; println!("FAIL {sql}\n   !!! {e}"); }
            }
        }
    }
    println!("bad {bad}");
}
