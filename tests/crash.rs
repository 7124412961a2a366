//! A server that is killed while it writes. Alone in its program, because every other session dies as well.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::*;
use futures_util::future::join_all;
use tokio_postgres::Client;

/// Connects again once the server has recovered.
async fn reconnect(database: &Database) -> Client {
    for _ in 0..200 {
        if let Ok(client) = try_connect(&database.config()).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server did not come back");
}

#[test]
fn after_a_killed_backend_every_acknowledged_change_has_its_event() {
    in_database_of_a_server_that_crashes(async |database| {
        if std::env::var("PG_TENANCY_DATA").is_err() {
            println!("skipped: the server is not one to be killed");
            return;
        }
        for round in 0..3 {
            let acknowledged = AtomicI64::new(0);
            let victim = database.application().await;
            let pid = count(&victim, "SELECT pg_backend_pid()").await;
            let killer = async {
                while acknowledged.load(Ordering::Relaxed) < 40 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
                (0, Vec::new())
            };
            let token = database.token("alice");
            let (acknowledged, token) = (&acknowledged, &token);
            let mut writers: Vec<futures_util::future::LocalBoxFuture<(usize, Vec<String>)>> = vec![Box::pin(killer)];
            let sealer = database.superuser().await;
            writers.push(Box::pin(async move {
                while sealer.simple_query("SELECT tenancy.seal()").await.is_ok() {}
                (0, Vec::new())
            }));
            for (n, client) in
                [victim, database.application().await, database.application().await].into_iter().enumerate()
            {
                writers.push(Box::pin(async move {
                    let mut done = Vec::new();
                    for change in 0.. {
                        let title = format!("round {round} writer {n} change {change}");
                        let sql = format!(
                            r#"BEGIN; SELECT tenancy.authenticate('{token}'); INSERT INTO "Finding" (title) VALUES ('{title}'); COMMIT"#
                        );
                        if client.batch_execute(&sql).await.is_err() {
                            break;
                        }
                        done.push(title);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    (n, done)
                }));
            }
            let done: Vec<String> = join_all(writers).await.into_iter().flat_map(|(_, done)| done).collect();
            assert!(done.len() >= 40);
            let superuser = reconnect(database).await;
            assert_audit_is_whole(&superuser).await;
            let sql = format!(
                "SELECT payload -> 'new' ->> 'title' FROM tenancy.event WHERE payload -> 'new' ->> 'title' LIKE 'round {round} %'"
            );
            let mut events = column(&superuser, &sql).await;
            let mut written =
                column(&superuser, &format!(r#"SELECT title FROM "Finding" WHERE title LIKE 'round {round} %'"#)).await;
            events.sort();
            written.sort();
            assert_eq!(events, written, "a row without an event, or an event without a row");
            assert!(done.iter().all(|title| events.binary_search(title).is_ok()), "an acknowledged change is gone");
        }
    });
}
