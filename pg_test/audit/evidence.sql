-- Evidence: who registers it, who sees it, and that nothing of it changes afterwards.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(39);


CREATE FUNCTION test.add(options text DEFAULT '', digest text DEFAULT 'sha256(''report'')', media_type text DEFAULT 'application/pdf') RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('SELECT tenancy.add_evidence(%s, %L, ''report.pdf''%s)', digest, media_type, options)
$$;

-- Registering ---------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused(test.add(), '28000', '%', 'Call tenancy.authenticate%', 'without a context nothing is registered');
SAVEPOINT nobody;
CALL test.sign_in('vic');
SELECT test.refused(test.add(), '42501', 'role "reader" may not create in domain "evidence"', '%', 'nor without the permission');
ROLLBACK TO SAVEPOINT nobody;

CALL test.sign_in('ada', correlation_id => 'audit-7');
SELECT isnt(tenancy.record_event('scan.finished', 'finding'), NULL, 'there is an event to refer to');
SELECT isnt(tenancy.add_evidence(sha256('report'), 'application/pdf', 'https://files.test/report.pdf', 'scanner 4', '2026-01-02 03:04:05.678901+00',
    'CC6.1', 'supports', ARRAY[tenancy.record_event('scan.reviewed')], 'the scan of January'), NULL, 'evidence of an event of the same statement is registered');
SELECT isnt(tenancy.add_evidence(sha256(''), 'text/plain', 'notes.txt'), NULL, 'and with what must be said alone');

SELECT test.same($$ SELECT organization, digest, media_type, source, collector, collected_at, registered_by, subject, relation, cardinality(events), description
                      FROM tenancy.evidence ORDER BY id $$, $$ VALUES
    (test.acme(), sha256('report'), 'application/pdf', 'https://files.test/report.pdf', 'scanner 4', '2026-01-02 03:04:05.678901+00'::timestamptz, 'ada', 'CC6.1', 'supports', 1, 'the scan of January'),
    (test.acme(), sha256(''), 'text/plain', 'notes.txt', 'ada', (SELECT registered_at FROM tenancy.evidence WHERE source = 'notes.txt'), 'ada', NULL, 'concerns', 0, NULL)
$$, 'members see what was registered');
SELECT ok(bool_and(registered_at BETWEEN now() AND clock_timestamp() AND registered_at >= collected_at AND id >= tenancy_lowest), 'at the time of the server, with ids in the order of time')
  FROM tenancy.evidence, LATERAL (SELECT (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid AS tenancy_lowest) l;

SELECT test.refused(statement, '22%', message, 'See the function''s description%', promise) FROM (VALUES
    (test.add(digest => '''\x00'''), 'digest must be%', 'a digest has 32 bytes'),
    (test.add(digest => 'NULL'), 'digest may not be NULL', 'and is needed'),
    (test.add(media_type => 'pdf'), 'media_type must be%', 'a media type has a subtype'),
    (test.add(media_type => 'text/plain; charset=utf-8'), 'media_type must be%', 'and no parameters'),
    (test.add(', relation => ''proves'''), 'relation must be one of concerns, %', 'a relation is one of those that there are'),
    (test.add(', relation => NULL'), 'relation may not be NULL', 'and is needed'),
    (test.add(', collector => '''''), 'collector must have%', 'a collector has a name'),
    (test.add(', subject => repeat(''x'', 2001)'), 'subject must have%', 'a subject has at most 2000 bytes'),
    (test.add(', collected_at => now() + interval ''1 hour'''), 'collected_at must lie%', 'nothing is collected in the future'),
    (test.add(', collected_at => ''infinity'''), 'collected_at must lie%', 'nor at the end of time'),
    (test.add(', collected_at => ''-infinity'''), 'collected_at must lie%', 'nor at its beginning'),
    (test.add(', events => NULL'), 'events may not be NULL', 'events are an array'),
    (test.add(', events => ARRAY[NULL]::uuid[]'), 'events may not have a NULL in it', 'without NULL'),
    (test.add(', events => array_fill(gen_random_uuid(), ARRAY[1001])'), 'events has more%', 'of at most 1000')
) v (statement, message, promise);
SELECT test.refused(test.add(format(', events => ARRAY[%L]::uuid[]', gen_random_uuid())), '42704', 'the organization has no event %', '%', 'an event that nobody has is refused');
RESET SESSION AUTHORIZATION;

-- In the history ------------------------------------------------------------------------------------------------------

SELECT test.same($$ SELECT e.organization, e.operation, e.domain, e.table_schema, e.table_name, e.row_key ->> 'id', e.payload -> 'new' ->> 'record', a.subject, a.correlation_id
                      FROM tenancy.evidence v JOIN tenancy.event e ON e.id = v.registration JOIN tenancy.event_actor a ON a.id = e.actor ORDER BY v.id $$,
                 $$ SELECT test.acme(), 'insert', 'evidence', 'tenancy', 'evidence', id, record::text, 'ada', 'audit-7' FROM tenancy.evidence ORDER BY id $$,
                 'each registration is an event that has the digest of the row');
SELECT is((SELECT payload #>> '{new,digest}' FROM tenancy.event e JOIN tenancy.evidence v ON v.registration = e.id WHERE v.source = 'notes.txt'), sha256('')::text, 'and the one of the artifact');
SELECT is((SELECT events FROM tenancy.evidence WHERE relation = 'supports'), (SELECT array_agg(id) FROM tenancy.event WHERE operation = 'scan.reviewed'), 'evidence names its events');

-- The record digest by hand: fields with their lengths, as docs/audit-format.md has them.
CREATE FUNCTION test.field(bytes bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN bytes IS NULL THEN '\xffffffff'::bytea ELSE int4send(length(bytes)) || bytes END $$;
CREATE FUNCTION test.field(words text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT test.field(convert_to(words, 'UTF8')) $$;
CREATE FUNCTION test.field(moment timestamptz) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT test.field(int8send((extract(epoch FROM moment) * 1000000)::bigint)) $$;
SELECT ok(bool_and(v.record = sha256(test.field('pg_tenancy/evidence/1'::text) || test.field(uuid_send(id)) || test.field(uuid_send(organization)) || test.field(digest) || test.field(media_type)
        || test.field(source) || test.field(collector) || test.field(collected_at) || test.field(registered_at) || test.field(registered_by) || test.field(subject)
        || test.field(relation) || test.field(coalesce((SELECT string_agg(uuid_send(e), ''::bytea ORDER BY n) FROM unnest(events) WITH ORDINALITY u (e, n)), '')) || test.field(description))),
        'the digest of a row is the one of the documentation') FROM tenancy.evidence v;

SELECT test.refused(statement, '42501', '% is refused: the audit is append-only', '%', 'refused to a superuser: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.evidence SET source = ''x''', 'DELETE FROM tenancy.evidence', 'TRUNCATE tenancy.evidence']) statement;

-- Who sees it ---------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT is((SELECT count(*) FROM tenancy.evidence), 2::bigint, 'an auditor sees all evidence without a context');
SELECT throws_ok($$ INSERT INTO tenancy.evidence SELECT * FROM tenancy.evidence $$, '42501', NULL, 'and writes none');
SELECT throws_ok(test.add(), '42501', NULL, 'nor registers any');
RESET SESSION AUTHORIZATION;

SET LOCAL SESSION AUTHORIZATION test_stranger;
SELECT throws_ok('SELECT * FROM tenancy.evidence', '42501', NULL, 'a stranger sees nothing');
SELECT throws_ok(test.add(), '42501', NULL, 'and registers nothing');
RESET SESSION AUTHORIZATION;

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok($$ INSERT INTO tenancy.evidence SELECT * FROM tenancy.evidence $$, '42501', NULL, 'an application writes no row by itself');
SELECT throws_ok($$ ALTER TABLE tenancy.evidence NO FORCE ROW LEVEL SECURITY $$, '42501', NULL, 'and opens nothing');
SAVEPOINT ada;
CALL test.sign_out();
SELECT test.refused('SELECT * FROM tenancy.evidence', '28000', '%', '%', 'without a context an application sees nothing');
ROLLBACK TO SAVEPOINT ada;
SELECT is((SELECT count(*) FROM tenancy.evidence), 2::bigint, 'the context of before sees its own');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM tenancy.evidence WHERE organization = test.acme()), 2::bigint, 'all of this is Acme''s');
SELECT * FROM finish();
ROLLBACK;
