//! The rows of the seal: what a transaction of many statements leaves, and how its events are found without an index by
//! batch.

use crate::common::*;
use tokio_postgres::Client;

/// More batches than two rows of the seal have.
const STATEMENTS: i64 = 9000;

/// One transaction of so many statements for each of two organizations, which alternate.
async fn many_statements(superuser: &Client) {
    run(
        superuser,
        &format!(
            r#"DO $$ BEGIN
               FOR n IN 1..{STATEMENTS} LOOP
                   INSERT INTO "Finding" (title, "organizationId") VALUES ('x', '{ACME}');
                   INSERT INTO "Finding" (title, "organizationId") VALUES ('x', '{GLOBEX}');
               END LOOP; END $$"#
        ),
    )
    .await;
}

#[test]
fn a_transaction_of_many_statements_has_several_rows_in_its_block() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        for title in ["before", "after"] {
            run(
                &superuser,
                &format!(r#"INSERT INTO "Finding" (title, "organizationId") VALUES ('{title}', '{ACME}')"#),
            )
            .await;
            seal(&superuser).await;
            if title == "before" {
                many_statements(&superuser).await;
                assert!(seal(&superuser).await >= 2 * STATEMENTS);
            }
        }
        assert_audit_is_whole(&superuser).await;
        let rows = format!(
            "SELECT string_agg((octet_length(entries) / 49)::text, ' ' ORDER BY leaves) FROM tenancy.seal
              WHERE organization = '{ACME}' GROUP BY block ORDER BY block"
        );
        assert_eq!(column(&superuser, &rows).await[1..], ["4096 4096 808", "1"]);
        // The places that a search finds are those of the entries, whichever event is asked for first.
        for order in ["e.batch", "e.batch DESC", "md5(e.batch::text)"] {
            let differ = format!(
                "SELECT count(*) FROM (SELECT * FROM tenancy.event e WHERE e.domain <> 'schema' ORDER BY {order}) e
                  CROSS JOIN LATERAL (SELECT tenancy.place_of(e.batch, e.organization, e.transaction) AS p OFFSET 0) p
                   FULL JOIN tenancy.entry n ON n.batch = e.batch
                  WHERE e.domain <> 'schema' AND p IS DISTINCT FROM ARRAY[n.block, n.leaf, n.position]"
            );
            assert_eq!(count(&superuser, &differ).await, 0, "{order}");
        }
        for (organization, transaction) in [(GLOBEX, "e.transaction"), (ACME, "'1'"), (ACME, "'99999999'")] {
            let nowhere = format!(
                "SELECT tenancy.place_of(e.id, '{organization}', {transaction}) IS NULL FROM tenancy.event_batch e
                  WHERE e.organization = '{ACME}' ORDER BY e.id DESC LIMIT 1"
            );
            assert_eq!(value(&superuser, &nowhere).await, "t", "{organization} {transaction}");
        }
        // Proofs out of each row, to the tree of today and to that of a row within the block.
        let proved = format!(
            "SELECT count(*) FILTER (WHERE tenancy.verify_inclusion(int8send(s.position) || s.batch_hash, s.leaf, z,
                        tenancy.inclusion_proof('{ACME}', s.leaf, z), tenancy.tree_root('{ACME}', z))) || ' '
                        || count(*)
               FROM unnest(ARRAY[1, 2, 4096, 4097, 4101, 4102, 8197, 8198, 9000]) l
               JOIN tenancy.entry s ON s.organization = '{ACME}' AND s.leaf = l
              CROSS JOIN unnest(ARRAY[4097, 5000, 9001]) z WHERE z >= l"
        );
        let (good, all) =
            value(&superuser, &proved).await.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(good, all);
        let last = format!("SELECT id FROM tenancy.event WHERE organization = '{ACME}' ORDER BY id DESC LIMIT 1");
        let proof = format!(
            "SELECT (p.leaf, p.position) = (s.leaves, s.position) FROM tenancy.event_proof(({last})) p,
                    (SELECT * FROM tenancy.seal WHERE organization = '{ACME}' ORDER BY block DESC LIMIT 1) s"
        );
        assert_eq!(value(&superuser, &proof).await, "t");
    });
}

#[test]
fn a_row_that_is_gone_repeated_or_too_long_is_named() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        many_statements(&superuser).await;
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
        run(&superuser, "ALTER TABLE tenancy.seal DISABLE TRIGGER append_only").await;
        let second = format!("organization = '{ACME}' AND leaves = 8192");
        for (damage, expected) in [
            (format!("DELETE FROM tenancy.seal WHERE {second}"), "4096 entries of the organization are gone"),
            (
                format!(
                    "INSERT INTO tenancy.seal SELECT organization, block, position, leaves - 1, chain, frontier, entries
                       FROM tenancy.seal WHERE {second}"
                ),
                "in tenancy.seal twice",
            ),
            (
                format!("UPDATE tenancy.seal SET entries = entries || entries WHERE {second}"),
                "entries in tenancy.seal has an impossible length",
            ),
            (format!("UPDATE tenancy.seal SET entries = '' WHERE {second}"), "an impossible length"),
            (
                format!("UPDATE tenancy.seal SET entries = overlay(entries PLACING '\\xff' FROM 17) WHERE {second}"),
                "more events than a batch can have",
            ),
            (
                format!(
                    "UPDATE tenancy.seal SET entries = substr(entries, 1, 98) || substr(entries, 50, 49)
                            || substr(entries, 148) WHERE {second}"
                ),
                "the transaction has an event with the same ordinal already",
            ),
        ] {
            run(&superuser, "BEGIN").await;
            run(&superuser, &damage).await;
            run(&superuser, "SET TRANSACTION READ ONLY").await;
            let found =
                column(&superuser, "SELECT DISTINCT explanation FROM tenancy.verify_audit(whole => true)").await;
            run(&superuser, "ROLLBACK").await;
            assert!(found.iter().any(|text| text.contains(expected)), "{damage}: {:?}", &found[..found.len().min(9)]);
        }
    });
}
