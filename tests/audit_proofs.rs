//! Proofs out of the trees: of an event in its batch, of a batch among those of its organization, of a head in a
//! checkpoint, and of a checkpoint in the log of all.

use crate::common::*;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

/// Three organizations: Acme with so many batches of a row in one block, Globex with 1051 batches in the blocks of 20
/// checkpoints, Initech with its creation alone. Acme and Globex have batches of several rows before those of one.
async fn history(database: &Database, batches_of_acme: i64) -> Client {
    let client = database.superuser().await;
    begin_anew(&client).await;
    for organization in [ACME, GLOBEX, INITECH] {
        run(&client, &format!("SELECT tenancy.create_organization('x', '{organization}')")).await;
    }
    run(
        &client,
        "CREATE TABLE finding (id bigint PRIMARY KEY, organization_id uuid NOT NULL, changes bigint NOT NULL);
         CREATE SEQUENCE finding_id;
         SELECT tenancy.protect('finding')",
    )
    .await;
    // Every second row is there already, with the negative id: an event of another operation begins another batch.
    let prepare = async |organization, rows: i64, from: i64| {
        let sql =
            format!("INSERT INTO finding SELECT -{from} - n, '{organization}', 0 FROM generate_series(2, {rows}, 2) n");
        run(&client, &sql).await;
    };
    let change = async |organization, rows: i64, from: i64| {
        let sql = format!(
            "INSERT INTO finding AS f
             SELECT CASE WHEN n % 2 = 0 THEN -{from} - n ELSE nextval('finding_id') END, '{organization}', 0
               FROM generate_series(1, {rows}) n
             ON CONFLICT (id) DO UPDATE SET changes = f.changes + 1"
        );
        run(&client, &sql).await;
    };
    prepare(ACME, batches_of_acme, 0).await;
    prepare(GLOBEX, 100, 1_000_000).await;
    change(ACME, batches_of_acme, 0).await;
    for n in 1..=20 {
        // With its creation and the batch of what is there already.
        change(GLOBEX, 5 * n - i64::from(n == 20), 1_000_000).await;
        run(&client, "SELECT tenancy.checkpoint()").await;
    }
    let batches = format!("SELECT max(leaf) FROM tenancy.entry WHERE organization = '{GLOBEX}'");
    assert_eq!(count(&client, &batches).await, 1051);
    client
}

/// As long as is needed where it does not matter: more than a node of the first stored level, which are 256 batches.
const SHORT: i64 = 300;
/// More than a node of the second stored level, which are 65,536 batches.
const LONG: i64 = 66_000;

async fn holds(client: &Client, condition: &str) -> bool {
    match value(client, &format!("SELECT {condition}")).await.as_str() {
        "t" => true,
        "f" => false,
        other => panic!("{condition} gave {other:?}"),
    }
}

/// The root of a tree over those leaves, as RFC 6962 defines it.
pub fn root_by_definition(leaves: &[Vec<u8>]) -> Vec<u8> {
    let hash = |parts: [&[u8]; 3]| Sha256::digest(parts.concat()).to_vec();
    match leaves {
        [leaf] => hash([&[0], leaf, &[]]),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            hash([&[1], &root_by_definition(left), &root_by_definition(right)])
        }
    }
}

#[test]
fn an_organization_without_events_has_the_empty_tree() {
    in_database(async |database| {
        let client = database.superuser().await;
        begin_anew(&client).await;
        assert!(holds(&client, &format!("tenancy.tree_root('{ACME}') = sha256('')")).await);
    });
}

#[test]
fn without_a_checkpoint_there_is_no_proof_of_one() {
    in_database(async |database| {
        let client = database.superuser().await;
        begin_anew(&client).await;
        let refusal = refused(&client, "SELECT tenancy.checkpoint_inclusion_proof(1)").await;
        assert_eq!(refusal.sqlstate, "42704");
    });
}

#[test]
fn the_root_of_any_size_is_that_of_the_definition() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        let sql = format!(
            "SELECT int8send(position) || batch_hash FROM tenancy.entry WHERE organization = '{GLOBEX}' ORDER BY leaf"
        );
        let leaves: Vec<Vec<u8>> = client.query(&sql, &[]).await.unwrap().into_iter().map(|row| row.get(0)).collect();
        assert_eq!(leaves.len(), 1051);
        // Whatever is stored of the tree.
        for size in [1, 2, 3, 7, 8, 9, 255, 256, 257, 258, 300, 511, 512, 513, 767, 768, 769, 1000] {
            let sql = format!("SELECT tenancy.tree_root('{GLOBEX}', {size})");
            let root: Vec<u8> = client.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(root, root_by_definition(&leaves[..size]), "{size}");
        }
    });
}

#[test]
fn in_trees_of_hundreds_of_sizes_each_batch_is_proved_and_each_tree_continues_the_others() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        let included = format!(
            "bool_and(tenancy.verify_inclusion(int8send(s.position) || s.batch_hash, s.leaf, n,
                                               tenancy.inclusion_proof(s.organization, s.leaf, n),
                                               tenancy.tree_root(s.organization, n)))
             FROM generate_series(1, 700) n
             JOIN tenancy.entry s ON s.organization = '{GLOBEX}' AND s.leaf <= n
                                AND (s.leaf % 61 = n % 61 OR s.leaf = n)"
        );
        assert!(holds(&client, &included).await);
        let continued = format!(
            "bool_and(tenancy.verify_consistency(o, tenancy.tree_root(b, o), n, tenancy.tree_root(b, n),
                                                 tenancy.consistency_proof(b, o, n)))
             FROM (SELECT '{GLOBEX}'::uuid AS b) b, generate_series(0, 700, 3) o, generate_series(o, 700, 41) n"
        );
        assert!(holds(&client, &continued).await);
    });
}

#[test]
fn a_long_history_is_proved_with_as_many_hashes_as_its_tree_is_high() {
    in_database(async |database| {
        let client = history(database, LONG).await;
        let included = format!(
            "bool_and(tenancy.verify_inclusion(int8send(s.position) || s.batch_hash, s.leaf, n,
                                               tenancy.inclusion_proof(s.organization, s.leaf, n),
                                               tenancy.tree_root(s.organization, n)))
             FROM unnest('{{66001,65536,65537,65535,65000}}'::int[]) n
             JOIN tenancy.entry s ON s.organization = '{ACME}' AND s.leaf <= n
                                AND s.leaf IN (1, 256, 257, 32768, 65000, 65535, 65536, 65537, 66001)"
        );
        assert!(holds(&client, &included).await);
        let hashes = format!("SELECT cardinality(tenancy.inclusion_proof('{ACME}', 40000, 65536))");
        assert_eq!(count(&client, &hashes).await, 16);
        // Each tree that a block left continues the ones before.
        let continued = "bool_and(h.frontier <> '' AND tenancy.verify_consistency(
                             h.leaves, tenancy.tree_root(h.organization, h.leaves),
                             n.leaves, tenancy.tree_root(n.organization, n.leaves),
                             tenancy.consistency_proof(h.organization, h.leaves, n.leaves)))
             FROM tenancy.seal h JOIN tenancy.seal n ON n.organization = h.organization AND n.leaves >= h.leaves";
        assert!(holds(&client, continued).await);
    });
}

#[test]
fn a_proof_is_of_one_batch_in_a_tree_of_one_size() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        // The only batch of an organization needs none.
        assert_eq!(value(&client, &format!("SELECT tenancy.inclusion_proof('{INITECH}', 1)")).await, "{}");
        // The size is that of all, unless another is named.
        let all = format!("tenancy.inclusion_proof('{GLOBEX}', 5) = tenancy.inclusion_proof('{GLOBEX}', 5, 1051)");
        assert!(holds(&client, &all).await);
        let another = format!(
            "bool_or(tenancy.verify_inclusion(int8send(s.position) || s.batch_hash, 77, 300,
                                              tenancy.inclusion_proof(s.organization, 77, 300),
                                              tenancy.tree_root(s.organization, 300)))
             FROM tenancy.entry s WHERE s.organization = '{GLOBEX}' AND s.leaf <> 77"
        );
        assert!(!holds(&client, &another).await, "the proof of one batch proves another");
        let elsewhere = format!(
            "bool_or(tenancy.verify_inclusion(int8send(at) || s.batch_hash, s.leaf, 300,
                                              tenancy.inclusion_proof(s.organization, s.leaf, 300),
                                              tenancy.tree_root(s.organization, 300)))
             FROM tenancy.entry s, generate_series(s.position - 3, s.position + 3) at
            WHERE s.organization = '{GLOBEX}' AND s.leaf = 77 AND at <> s.position"
        );
        assert!(!holds(&client, &elsewhere).await, "the proof of a batch proves it at another position");
    });
}

/// That the events of this condition are proved, in their batches and in the tree.
fn events_proved(condition: &str) -> String {
    format!(
        "bool_and(p.organization = t.organization AND p.position = t.position AND p.leaf = t.leaf
                  AND tenancy.verify_inclusion(p.data, p.place, p.events, p.proof, p.root)
                  AND tenancy.verify_inclusion(int8send(p.position - p.place + p.events) || p.batch_hash, p.leaf, 300,
                                               tenancy.inclusion_proof(p.organization, p.leaf, 300),
                                               tenancy.tree_root(p.organization, 300)))
           FROM tenancy.audit_trail t, tenancy.event_proof(t.id) p
          WHERE t.organization = '{ACME}' AND t.leaf <= 300 AND {condition}"
    )
}

#[test]
fn each_event_is_proved_in_its_batch_also_after_an_erasure() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        assert!(holds(&client, &events_proved("true")).await);
        let largest = format!("SELECT max(events) FROM tenancy.event_batch WHERE organization = '{ACME}'");
        assert_eq!(count(&client, &largest).await, 128);
        let third =
            format!("SELECT id FROM tenancy.event WHERE organization = '{ACME}' AND batch_events = 128 AND place = 2");
        let third = value(&client, &third).await;
        // The proof of one event proves no other one, and not at another place.
        for (data, place) in [("o.data", "p.place"), ("p.data", "o.place"), ("o.data", "o.place")] {
            let other = format!(
                "bool_or(tenancy.verify_inclusion({data}, {place}, p.events, p.proof, p.root))
                   FROM tenancy.event_proof('{third}') p,
                        tenancy.event e, tenancy.event_proof(e.id) o
                  WHERE e.batch = tenancy.batch_of('{third}') AND e.place <> 2"
            );
            assert!(!holds(&client, &other).await, "{data} at {place}");
        }
        let proof = format!("SELECT p::text FROM tenancy.event_proof('{third}') p");
        let before = value(&client, &proof).await;
        run(&client, &format!("SELECT tenancy.erase_payload('{third}', 'asked for by the person')")).await;
        assert_eq!(value(&client, &proof).await, before);
        assert!(holds(&client, &events_proved(&format!("t.batch = tenancy.batch_of('{third}')"))).await);
    });
}

#[test]
fn of_an_event_that_is_not_sealed_or_not_what_was_sealed_there_is_no_proof() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        let proof = |event: &str| format!("SELECT tenancy.event_proof({event})");
        assert_eq!(refused(&client, &proof("NULL")).await.sqlstate, "22004");
        assert_eq!(refused(&client, &proof(&format!("'{ACME}'"))).await.sqlstate, "42704");
        run(&client, &format!("INSERT INTO finding SELECT -7000 - n, '{ACME}', 0 FROM generate_series(1, 3) n")).await;
        let events = "SELECT id FROM tenancy.event WHERE batch_events = 3 ORDER BY place";
        let events = column(&client, events).await;
        assert_eq!(refused(&client, &proof(&format!("'{}'", events[0]))).await.sqlstate, "42704", "not sealed");
        run(&client, "SELECT tenancy.seal()").await;
        for event in &events {
            assert_eq!(rows(&client, &proof(&format!("'{event}'"))).await.len(), 1);
        }
        let past = format!("'{}3'", &events[2][..35]);
        assert_eq!(refused(&client, &proof(&past)).await.sqlstate, "42704", "past the last event of the batch");

        run(&client, "ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only").await;
        let batch = format!("WHERE id = '{}'", events[0]);
        for change in [
            format!("UPDATE tenancy.event_batch SET operation = 'delete' {batch}"),
            format!("UPDATE tenancy.event_batch SET packed = set_byte(packed, 7, get_byte(packed, 7) # 1) {batch}"),
            format!("UPDATE tenancy.event_batch SET packed = left(packed::text, 20)::bytea {batch}"),
            format!("UPDATE tenancy.event_batch SET organization = '{GLOBEX}' {batch}"),
            format!("UPDATE tenancy.event_batch SET ordinal = 2147483647 {batch}"),
            format!("DELETE FROM tenancy.event_batch {batch}"),
        ] {
            run(&client, "BEGIN").await;
            assert_eq!(changed(&client, &change).await, 1, "{change}");
            let refusal = refused(&client, &proof(&format!("'{}'", events[1]))).await;
            assert_eq!(refusal.sqlstate, "XX001", "{change}");
            run(&client, "ROLLBACK").await;
        }
    });
}

#[test]
fn what_is_no_proof_proves_nothing() {
    in_database(async |database| {
        let client = database.superuser().await;
        assert!(holds(&client, r"tenancy.verify_inclusion('x', 1, 1, '{}', sha256('\x0078'))").await);
        for wrong in [
            r"tenancy.verify_inclusion('x', 0, 1, '{}', sha256('\x0078'))",
            r"tenancy.verify_inclusion('x', -1, 1, '{}', sha256('\x0078'))",
            r"tenancy.verify_inclusion('x', 2, 1, '{}', sha256('\x0078'))",
            r"tenancy.verify_inclusion('x', 1, 1, '{NULL}', sha256('\x0078'))",
            r#"tenancy.verify_inclusion('x', 1, 1, '{"\\x00"}', sha256('\x0078'))"#,
            r"tenancy.verify_inclusion('x', 1, 1, '{}', 'x')",
            r"tenancy.verify_consistency(-1, sha256(''), 1, sha256('\x0078'), '{}')",
            r"tenancy.verify_consistency(2, sha256(''), 1, sha256('\x0078'), '{}')",
            r"tenancy.verify_consistency(1, 'x', 1, 'x', '{}')",
        ] {
            assert!(!holds(&client, wrong).await, "{wrong}");
        }
        // Of what is not known nothing is said.
        let unknown = r"SELECT tenancy.verify_inclusion(NULL, 1, 1, '{}', sha256('\x0078'))";
        assert_eq!(rows(&client, unknown).await, [[None]]);
    });
}

#[test]
fn a_proof_of_what_is_not_there_is_refused() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        let nobody = "dddddddd-0000-4000-8000-000000000003";
        for (sqlstate, call) in [
            ("22004", "inclusion_proof(NULL, 1)".to_owned()),
            ("22004", format!("inclusion_proof('{GLOBEX}', NULL)")),
            ("22004", format!("consistency_proof('{GLOBEX}', NULL)")),
            ("22004", "head_proof(NULL)".to_owned()),
            ("22004", "tree_root(NULL)".to_owned()),
            ("22004", "checkpoint_inclusion_proof(NULL)".to_owned()),
            ("22023", format!("inclusion_proof('{GLOBEX}', 0)")),
            ("22023", format!("inclusion_proof('{GLOBEX}', 10, 9)")),
            ("22023", format!("inclusion_proof('{GLOBEX}', 1, 1052)")),
            ("22023", format!("inclusion_proof('{nobody}', 1)")),
            ("22023", format!("consistency_proof('{GLOBEX}', 10, 9)")),
            ("22023", format!("consistency_proof('{GLOBEX}', -1)")),
            ("22023", "checkpoint_inclusion_proof(1, 99)".to_owned()),
            ("42704", format!("head_proof('{GLOBEX}', 99)")),
        ] {
            assert_eq!(refused(&client, &format!("SELECT tenancy.{call}")).await.sqlstate, sqlstate, "{call}");
        }
        // Whose head is in no checkpoint is shown none.
        let head = format!("SELECT place FROM tenancy.head_proof('{nobody}')");
        assert_eq!(column(&client, &head).await, Vec::<String>::new());
    });
}

#[test]
fn each_organization_is_shown_its_head_in_each_checkpoint() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        let shown =
            "SELECT count(*), bool_and(tenancy.verify_inclusion(p.digest, p.place, p.heads, p.proof, c.heads_root)
                                               AND p.root = tenancy.tree_root(o, p.leaves) AND p.heads = c.heads)
                       FROM tenancy.checkpoint c, (SELECT DISTINCT organization AS o FROM tenancy.seal) o,
                            tenancy.head_proof(o, c.number) p";
        assert_eq!(rows(&client, shown).await, [[Some("80".to_owned()), Some("t".to_owned())]]);
    });
}

#[test]
fn each_checkpoint_is_in_each_later_one_which_continues_it() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        let continued = "bool_and(
                 tenancy.verify_inclusion(a.digest, a.number, b.number,
                                          tenancy.checkpoint_inclusion_proof(a.number, b.number), b.root)
                 AND tenancy.verify_consistency(a.number, a.root, b.number, b.root,
                         tenancy.checkpoint_consistency_proof(a.number, b.number, b.incarnation)))
             FROM tenancy.checkpoint a JOIN tenancy.checkpoint b ON a.number <= b.number";
        assert!(holds(&client, continued).await);
        let other = "bool_or(tenancy.verify_consistency(a.number, sha256(a.root), b.number, b.root,
                                 tenancy.checkpoint_consistency_proof(a.number, b.number)))
             FROM tenancy.checkpoint a JOIN tenancy.checkpoint b ON a.number < b.number";
        assert!(!holds(&client, other).await, "one continues what another root was signed for");
    });
}

#[test]
fn who_may_not_read_events_may_still_prove_them_but_an_application_may_not() {
    in_database(async |database| {
        let client = history(database, SHORT).await;
        run(&client, "SET ROLE tenancy_admin").await;
        let hashes = format!("SELECT cardinality(tenancy.inclusion_proof('{GLOBEX}', 1, 1000))");
        assert_eq!(count(&client, &hashes).await, 10);
        run(&client, "SET ROLE tenancy_application").await;
        for call in [
            &format!("inclusion_proof('{GLOBEX}', 1)"),
            &format!("head_proof('{GLOBEX}')"),
            &format!("tree_root('{GLOBEX}')"),
            &format!("event_proof('{GLOBEX}')"),
            "checkpoint_consistency_proof(1)",
        ] {
            assert_eq!(refused(&client, &format!("SELECT tenancy.{call}")).await.sqlstate, "42501", "{call}");
        }
    });
}
