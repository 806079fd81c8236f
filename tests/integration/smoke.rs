//! The main job, end to end: open files, a join, a table made from it, and the same after a crash.

use crate::daemon::{Catalogs, Setup, code, rows};

fn text(rows: &[Vec<Option<String>>]) -> Vec<Vec<&str>> {
    rows.iter().map(|row| row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_survives_a_kill() {
    let catalogs = Catalogs::on_disk();
    let mut daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let flights =
        rows(&client, "SELECT count(*), sum(distance), count(*) - count(dep_time) FROM raw.flights").await;
    assert_eq!(text(&flights), [["336776", "350217607", "8255"]]);
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    let made = "CREATE TABLE mart.delays PARTITIONED BY (month) AS \
        SELECT f.month, a.name, count(*) AS flights, avg(f.dep_delay) AS delay, avg(w.wind_speed) AS wind \
        FROM raw.flights f JOIN raw.airlines a USING (carrier) \
        LEFT JOIN raw.weather w ON w.origin = f.origin AND w.time_hour = f.time_hour GROUP BY 1, 2";
    rows(&client, made).await;
    let query = "SELECT * FROM mart.delays ORDER BY month, name";
    let before = rows(&client, query).await;
    assert_eq!(before.len(), 185);
    daemon.kill();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    assert_eq!(rows(&client, query).await, before);
    assert_eq!(code(&client, made).await, "42P07");
}
