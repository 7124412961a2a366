//! What the tests say to the server, in few words.

use std::future::poll_fn;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

/// An error of the server, as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Refusal {
    pub fn of(error: &tokio_postgres::Error) -> Self {
        let error = error.as_db_error().unwrap_or_else(|| panic!("no error of the server: {error:?}"));
        Refusal {
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// Begins a transaction and authenticates in it.
pub async fn as_tenant(client: &Client, token: &str) {
    run(client, "BEGIN").await;
    authenticate(client, token).await.unwrap();
}

/// Authenticates in the transaction that is open.
pub async fn authenticate(client: &Client, token: &str) -> Result<(), Refusal> {
    let done = client.execute("SELECT tenancy.authenticate($1)", &[&token]).await;
    done.map(drop).map_err(|error| Refusal::of(&error))
}

/// Runs statements that must succeed.
pub async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
}

/// Runs statements that must fail, and says how they did.
pub async fn refused(client: &Client, sql: &str) -> Refusal {
    match client.simple_query(sql).await {
        Ok(answer) => panic!("{sql} was not refused, but gave {answer:?}"),
        Err(error) => Refusal::of(&error),
    }
}

/// Runs statements that must fail in the open transaction, which goes on without them.
pub async fn refused_within(client: &Client, sql: &str) -> Refusal {
    run(client, "SAVEPOINT before_refusal").await;
    let refusal = refused(client, sql).await;
    run(client, "ROLLBACK TO before_refusal; RELEASE before_refusal").await;
    refusal
}

/// The rows of the statements' results, each value as text.
pub async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    try_rows(client, sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
}

pub async fn try_rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, Refusal> {
    let messages = client.simple_query(sql).await.map_err(|error| Refusal::of(&error))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// The first column of the result, each value as text, NULL as the empty text.
pub async fn column(client: &Client, sql: &str) -> Vec<String> {
    rows(client, sql).await.into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default()).collect()
}

/// The only value of the result.
pub async fn value(client: &Client, sql: &str) -> String {
    let mut values = column(client, sql).await;
    assert_eq!(values.len(), 1, "{sql} gave {values:?}");
    values.remove(0)
}

pub async fn count(client: &Client, sql: &str) -> i64 {
    value(client, sql).await.parse().unwrap_or_else(|_| panic!("{sql} gave no number"))
}

pub async fn whoami(client: &Client) -> Value {
    serde_json::from_str(&value(client, "SELECT tenancy.whoami()").await).unwrap()
}

/// How many rows the last statement of `sql` changed.
pub async fn changed(client: &Client, sql: &str) -> u64 {
    client.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()))
}

/// Waits until the query gives true, for at most a minute: other tests keep the server busy.
pub async fn eventually(client: &Client, sql: &str) {
    for _ in 0..1200 {
        if value(client, sql).await == "t" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{sql} never became true");
}

/// Whether a session of the test's database waits for a lock: for [`eventually`].
pub const SOMEBODY_WAITS: &str =
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())";

/// Leaves nothing of the test's database but the extension as it is created: no event, no organization, no table.
pub async fn begin_anew(superuser: &Client) {
    for sql in [
        r#"DROP TABLE public."Finding", public.cloud_account"#,
        "DROP EXTENSION pg_tenancy CASCADE",
        "CREATE EXTENSION pg_tenancy",
    ] {
        run(superuser, sql).await;
    }
}

/// A connection that listens.
pub struct Listener {
    client: Client,
    told: UnboundedReceiver<String>,
}

impl Listener {
    pub async fn on(config: &Config, channels: &[&str]) -> Self {
        let (client, mut connection) = config.connect(NoTls).await.unwrap();
        let (sender, told) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    sender.send(notification.payload().to_owned()).ok();
                }
            }
        });
        for channel in channels {
            run(&client, &format!("LISTEN {channel}")).await;
        }
        run(&client, "LISTEN that_is_all").await;
        Listener { client, told }
    }

    /// What it was told since the last call by transactions that have committed.
    pub async fn told(&mut self) -> Vec<String> {
        run(&self.client, "NOTIFY that_is_all, 'that is all'").await;
        let mut told = Vec::new();
        loop {
            match self.told.recv().await.expect("a connection that still listens") {
                payload if payload == "that is all" => return told,
                payload => told.push(payload),
            }
        }
    }
}

/// Seals what has committed; returns how many events that were.
pub async fn seal(client: &Client) -> i64 {
    count(client, "SELECT tenancy.seal()").await
}

/// Seals until nothing is left: a run that finds other triggers than the one before writes an event, which the next
/// one seals.
pub async fn seal_all(client: &Client) {
    while seal(client).await > 0 {}
}

/// What `verify_audit` finds: finding, position and event of each.
pub async fn findings(client: &Client) -> Vec<(String, Option<i64>, String)> {
    let rows = rows(client, r#"SELECT finding, "position", event FROM tenancy.verify_audit(whole => true)"#).await;
    rows.into_iter()
        .map(|row| match &row[..] {
            [Some(finding), position, Some(event)] => {
                (finding.clone(), position.as_ref().and_then(|position| position.parse().ok()), event.clone())
            }
            _ => panic!("{row:?}"),
        })
        .collect()
}

pub async fn assert_audit_is_whole(client: &Client) {
    assert_eq!(findings(client).await, []);
    // What the sealer itself has written of what captures is sealed by its next run.
    run(client, "SELECT tenancy.verify_audit()").await;
    // Every committed event once, without a gap.
    let sql = "SELECT (SELECT count(*) FROM tenancy.event), (SELECT count(DISTINCT id) FROM tenancy.event),
                      (SELECT count(DISTINCT (organization, \"position\")) FROM tenancy.audit_trail),
                      (SELECT coalesce(sum(events), 0) FROM tenancy.block),
                      (SELECT coalesce(sum(n), 0) FROM (SELECT max(position) AS n FROM tenancy.entry GROUP BY \
                      organization) s),
                      (SELECT coalesce(sum(events), 0) FROM tenancy.event_batch)";
    let numbers = rows(client, sql).await.remove(0);
    assert!(numbers.iter().all(|number| *number == numbers[0]), "events, ids, positions, blocks: {numbers:?}");
    // Every batch of them as well.
    let sql = "SELECT (SELECT count(*) FROM tenancy.event_batch), (SELECT count(*) FROM tenancy.entry),
                      (SELECT count(DISTINCT batch) FROM tenancy.entry),
                      (SELECT coalesce(sum(n), 0) FROM (SELECT max(leaf) AS n FROM tenancy.entry GROUP BY \
                      organization) s)";
    let numbers = rows(client, sql).await.remove(0);
    assert!(numbers.iter().all(|number| *number == numbers[0]), "batches, entries, leaves: {numbers:?}");
}

/// Makes `forged`, a view in which a forger changes and removes entries of the seal. What follows from them, chain,
/// tree and block, stays as it is.
pub async fn forge_entries(client: &Client) {
    let sql = r"
        CREATE TEMP VIEW forged AS
        SELECT s.organization, s.block, s.leaves, e.leaf, e.last AS position, e.events, e.batch, e.batch_hash
          FROM tenancy.seal s, LATERAL tenancy.unpack_entries(s.position, s.leaves, s.entries) e;
        CREATE FUNCTION pg_temp.forge() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            entry bytea := uuid_send(OLD.batch) || set_byte('\x00', 0, (OLD.events - 1)::int) || OLD.batch_hash;
        BEGIN
            IF TG_OP = 'DELETE' THEN
                UPDATE tenancy.seal s
                   SET entries = overlay(s.entries PLACING ''::bytea FROM position(entry IN s.entries) FOR 49)
                 WHERE (s.organization, s.block, s.leaves) = (OLD.organization, OLD.block, OLD.leaves);
                DELETE FROM tenancy.seal s
                 WHERE (s.organization, s.block, s.leaves) = (OLD.organization, OLD.block, OLD.leaves)
                   AND s.entries = '';
                RETURN OLD;
            END IF;
            UPDATE tenancy.seal s
               SET entries = overlay(s.entries PLACING
                       uuid_send(NEW.batch) || set_byte('\x00', 0, (NEW.events - 1)::int) || NEW.batch_hash
                       FROM octet_length(s.entries) + 1 - 49 * (OLD.leaves - OLD.leaf + 1)::int FOR 49)
             WHERE (s.organization, s.block, s.leaves) = (OLD.organization, OLD.block, OLD.leaves);
            RETURN NEW;
        END $$;
        CREATE TRIGGER forge INSTEAD OF UPDATE OR DELETE ON forged FOR EACH ROW EXECUTE FUNCTION pg_temp.forge()";
    run(client, sql).await;
}

/// A checkpoint that is handed out: its note, and the public key.
pub async fn checkpoint(superuser: &Client) -> Option<(String, String)> {
    if value(superuser, "SELECT coalesce(current_setting('tenancy.signing_key_file', true), '') = ''").await == "t" {
        println!("skipped: the server has no key to sign with");
        return None;
    }
    run(superuser, "SELECT tenancy.checkpoint()").await;
    let newest = "FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1";
    let note = value(superuser, &format!("SELECT note {newest}")).await;
    Some((note, value(superuser, "SELECT public_key FROM tenancy.signing_key").await))
}
