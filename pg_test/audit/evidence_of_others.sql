-- Evidence before another organization, and before whoever may only register it.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(10);
SELECT tenancy.grant_permission('editor', 'evidence', 'create') \g /dev/null
INSERT INTO app.finding VALUES (70, test.acme(), 'acme''s', 1);
INSERT INTO tenancy.evidence SELECT gen_random_uuid(), test.acme(), sha256('secret'), 'text/plain', 'acme''s secret', 'x', now(), now(), 'x', NULL, 'concerns', '{}', NULL, sha256(''), gen_random_uuid();
CREATE TEMP TABLE acme_event AS SELECT id FROM tenancy.event WHERE organization = test.acme() ORDER BY id DESC LIMIT 1;
GRANT SELECT ON acme_event TO test_application;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT is((SELECT count(*) FROM acme_event), 1::bigint, 'there is an event of Acme');
SELECT test.refused(format('SELECT tenancy.add_evidence(sha256(''''), ''text/plain'', ''x'', events => ARRAY[%L]::uuid[])', id), '42704', 'the organization has no event %', '%',
    'evidence of another organization''s event is refused in the words for an unknown one') FROM acme_event;
SELECT is_empty('SELECT * FROM tenancy.evidence', 'another organization sees nothing of Acme''s');
SELECT is_empty($$ SELECT * FROM tenancy.evidence WHERE digest = sha256('secret') $$, 'not by the digest either');
SELECT isnt(tenancy.add_evidence(sha256('secret'), 'text/plain', 'x'), NULL, 'it may register the same artifact');
SELECT results_eq('SELECT organization, source FROM tenancy.evidence', $$ VALUES (test.bolt(), 'x') $$, 'and sees its own');
-- An own function that is cheap and tells.
CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN $1 LIKE 'acme%'; END $$;
SELECT is_empty('SELECT * FROM tenancy.evidence WHERE pg_temp.tell(source)', 'a function of its own in the query is shown nothing of Acme''s');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT isnt(tenancy.add_evidence(sha256('e'), 'text/plain', 'x'), NULL, 'who may create');
SELECT test.refused('SELECT * FROM tenancy.evidence', '42501', 'role "editor" may not read in domain "evidence"', '%', 'may not read unless that is permitted too');
RESET SESSION AUTHORIZATION;
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_application;
SET TRANSACTION READ ONLY;
CALL test.sign_in('ada');
SELECT test.refused('SELECT tenancy.add_evidence(sha256(''''), ''text/plain'', ''x'')', '25006', 'evidence cannot be registered%', '%', 'nothing is registered in a READ ONLY transaction');
RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
