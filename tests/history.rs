//! Rows rebuilt from their events against what the table really held.

use crate::common::*;
use rand::RngExt as _;
use tokio_postgres::Client;

const TABLE: &str = r#"
CREATE TABLE thing (
    id integer PRIMARY KEY, organization_id uuid NOT NULL, name text, amount numeric, price double precision, at
        timestamptz, tags text[], data jsonb
);
SELECT tenancy.protect('thing');
CREATE TABLE seen (at timestamptz, id integer, held thing);
CREATE TABLE echo (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL, kind text);
SELECT tenancy.protect('echo');
-- Now and then a row leads to others in the middle of the statement, some of which are taken back.
CREATE FUNCTION resound() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    chance float := random();
BEGIN
    IF chance < 0.05 THEN
        INSERT INTO echo (organization_id, kind) SELECT NEW.organization_id, 'kept' FROM generate_series(1, 3);
    ELSIF chance < 0.1 THEN
        BEGIN
            INSERT INTO echo (organization_id, kind) SELECT NEW.organization_id, 'gone' FROM generate_series(1, 3);
            RAISE EXCEPTION 'taken back';
        EXCEPTION WHEN raise_exception THEN
            INSERT INTO echo (organization_id, kind) VALUES (NEW.organization_id, 'instead');
        END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER resound AFTER INSERT OR UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION resound();
"#;

/// The keys that are looked at.
const KEYS: i32 = 12;

/// What the table holds now under each key, and when that is.
const LOOK: &str = "
INSERT INTO seen SELECT clock_timestamp(), n, (SELECT t FROM thing t WHERE t.id = n) FROM generate_series(1, 12) n;
SELECT pg_sleep(0.0001)";

/// A change of one row or of many; some fail for a key that is taken.
fn change() -> String {
    let mut random = rand::rng();
    let (id, other) = (random.random_range(1..=KEYS), random.random_range(1..=KEYS));
    let organization = [ACME, GLOBEX, INITECH][random.random_range(0..3)];
    let number: u32 = random.random();
    // Every row, each second one, and so on.
    let (step, rest) = (random.random_range(1..=3), random.random_range(0..3));
    match random.random_range(0..16) {
        10 | 11 => format!(
            "INSERT INTO thing (id, organization_id, name, tags)
             SELECT n, ('{{{ACME},{GLOBEX},{INITECH}}}'::uuid[])[1 + n % {step}], 'many {number} ' || n, ARRAY[n::text]
               FROM generate_series(1, {KEYS}) n WHERE n % {step} = {rest} % {step}
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, at = clock_timestamp()"
        ),
        12 => format!("UPDATE thing SET name = name || id, amount = coalesce(amount, {number}) + id"),
        13 => format!("UPDATE thing SET organization_id = '{organization}', at = now() WHERE id % {step} = {rest}"),
        14 => format!("DELETE FROM thing WHERE id % 3 = {rest}"),
        15 => format!(
            "DO $$ BEGIN
                 BEGIN
                     UPDATE thing SET name = 'gone', tags = NULL;
                     INSERT INTO thing SELECT n, '{organization}' FROM generate_series(200, 205) n;
                     RAISE EXCEPTION 'taken back';
                 EXCEPTION WHEN raise_exception THEN
                     UPDATE thing SET data = jsonb_build_object('n', id) WHERE id % {step} = {rest};
                 END;
             END $$"
        ),
        0..3 => format!(
            "INSERT INTO thing VALUES ({id}, '{organization}', 'n{number}', {number}.50, {number}e-3, now(), \
                ARRAY['a\"', NULL, '{number}'], NULL)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name || '!', at = clock_timestamp(), tags = NULL"
        ),
        3 => format!("INSERT INTO thing VALUES ({id}, '{organization}')"),
        4 => format!("DELETE FROM thing WHERE id = {id}"),
        5 => format!("UPDATE thing SET id = {other}, data = '{{\"n\": [{number}, null, 1.10]}}' WHERE id = {id}"),
        6 => format!("UPDATE thing SET organization_id = '{organization}', name = NULL WHERE id = {id}"),
        7 => format!("UPDATE thing SET amount = amount / 3, price = -price WHERE id <> {id}"),
        8 => format!(
            "UPDATE thing SET id = id + 100 WHERE id = {id}; UPDATE thing SET id = {other} WHERE id = {id} + \
            100"
        ),
        _ => format!(
            "UPDATE thing SET data = NULL, name = 'x' WHERE id = {id}; UPDATE thing SET name = NULL, at = \
            NULL WHERE id = {id}"
        ),
    }
}

/// Several changes with savepoints, some of which are rolled back, as one transaction.
async fn transaction(client: &Client) {
    let count = rand::rng().random_range(1..5);
    run(client, "BEGIN").await;
    for _ in 0..count {
        run(client, "SAVEPOINT s").await;
        let failed = client.batch_execute(&change()).await.is_err();
        let undo = failed || rand::rng().random_bool(0.2);
        run(client, if undo { "ROLLBACK TO s" } else { "RELEASE s" }).await;
    }
    run(client, if rand::rng().random_bool(0.1) { "ROLLBACK" } else { "COMMIT" }).await;
}

const DIFFERENT: &str = "
SELECT format('%s %s: held %s, rebuilt %s', s.at, s.id, s.held, r.row) FROM seen s
  LEFT JOIN LATERAL (SELECT tenancy.row_as_of('thing', jsonb_build_object('id', s.id), s.at) AS row
                      WHERE EXISTS (SELECT FROM tenancy.row_history('thing', jsonb_build_object('id', s.id)))) r ON true
 WHERE (CASE WHEN r.row IS NOT NULL THEN jsonb_populate_record(NULL::thing, r.row) END) IS DISTINCT FROM s.held";

#[test]
fn a_row_as_of_any_moment_is_what_the_table_held() {
    in_database(async |database| {
        let client = database.superuser().await;
        run(&client, "SET TimeZone = 'UTC'; SET synchronous_commit = off").await;
        run(&client, TABLE).await;
        for _ in 0..60 {
            transaction(&client).await;
            run(&client, LOOK).await;
        }
        assert!(count(&client, "SELECT count(*) FROM seen WHERE (held).id IS NOT NULL").await > 60);
        assert!(count(&client, "SELECT count(*) FROM tenancy.event WHERE table_name = 'thing'").await > 60);
        let packed = "SELECT count(*) FILTER (WHERE place = 0) FROM tenancy.event
                       WHERE table_name = 'thing' AND domain = 'thing' AND batch_events > 1";
        assert!(count(&client, packed).await > 30, "too few batches of several events");
        assert_eq!(column(&client, DIFFERENT).await, Vec::<String>::new(), "before sealing");
        let echoes = "SELECT organization_id || ' ' || n || ' ' || kind FROM echo ORDER BY 1";
        let told = "SELECT organization || ' ' || (payload -> 'new' ->> 'n') || ' ' || (payload -> 'new' ->> 'kind')
                      FROM tenancy.event WHERE table_name = 'echo' AND operation = 'insert' AND domain = 'echo' \
                          ORDER BY 1";
        assert_eq!(column(&client, echoes).await, column(&client, told).await);
        seal(&client).await;
        let hundred = format!("{DIFFERENT} AND s.at IN (SELECT at FROM seen ORDER BY random() LIMIT 60)");
        assert_eq!(column(&client, &hundred).await, Vec::<String>::new(), "after sealing");
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn a_transaction_that_began_earlier_may_have_changed_the_row_later() {
    in_database(async |database| {
        let (earlier, later) = (database.superuser().await, database.superuser().await);
        run(&earlier, TABLE).await;
        run(
            &earlier,
            &format!("INSERT INTO thing (id, organization_id, name) VALUES (1, '{ACME}', 'first'), (2, '{ACME}', 'x')"),
        )
        .await;
        run(&earlier, "BEGIN; UPDATE thing SET name = 'y' WHERE id = 2").await;
        run(&later, "UPDATE thing SET name = 'second' WHERE id = 1").await;
        run(&earlier, "UPDATE thing SET name = 'third' WHERE id = 1; COMMIT").await;
        seal(&earlier).await;
        let sql = r#"SELECT "row" ->> 'name' FROM tenancy.row_history('thing', '{"id": 1}') WHERE complete"#;
        assert_eq!(column(&earlier, sql).await, ["first", "second", "third"]);
        let sql = r#"SELECT "position" FROM tenancy.row_history('thing', '{"id": 1}')"#;
        let positions: Vec<i64> = column(&earlier, sql).await.iter().map(|text| text.parse().unwrap()).collect();
        assert!(positions[1] > positions[2], "the seal has them the other way round: {positions:?}");
    });
}

#[test]
fn what_was_erased_is_gone_from_the_history_and_the_row_says_so() {
    in_database(async |database| {
        let client = database.superuser().await;
        run(&client, TABLE).await;
        run(&client, &format!("INSERT INTO thing (id, organization_id, name) VALUES (1, '{ACME}', 'secret name')"))
            .await;
        run(&client, "UPDATE thing SET name = 'public' WHERE id = 1").await;
        seal(&client).await;
        run(&client, &format!(r#"SELECT tenancy.erase_row_payloads('{ACME}', 'thing', '{{"id": 1}}', 'asked')"#)).await;
        run(&client, "UPDATE thing SET amount = 1 WHERE id = 1").await;
        let sql =
            r#"SELECT operation || ' ' || complete || ' ' || "row" FROM tenancy.row_history('thing', '{"id": 1}')"#;
        assert_eq!(column(&client, sql).await, ["insert false {}", "update false {}", r#"update false {"amount": 1}"#]);
        let refusal = refused(&client, r#"SELECT tenancy.row_as_of('thing', '{"id": 1}', 'infinity')"#).await;
        assert_eq!(refusal.sqlstate, "55000");
        let numeric =
            "CREATE TABLE big (id numeric PRIMARY KEY, organization_id uuid NOT NULL); SELECT tenancy.protect('big')";
        run(&client, numeric).await;
        run(
            &client,
            &format!(
                "INSERT INTO big VALUES (123456789012345678901234567890, '{ACME}'), \
            (123456789012345678901234567891, '{ACME}')"
            ),
        )
        .await;
        seal(&client).await;
        let sql = format!(
            r#"SELECT tenancy.erase_row_payloads('{ACME}', 'big', '{{"id": 123456789012345678901234567891}}', 'asked')"#
        );
        assert_eq!(count(&client, &sql).await, 1, "no digit of a key is lost");
    });
}
