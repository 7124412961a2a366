-- tenancy.record_event: what an application does that is no change of a row.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(35);

SET LOCAL ROLE test_application;
SELECT tenancy.authenticate(test.token('ada')) \g /dev/null
SELECT isnt(tenancy.record_event('report.exported', 'finding', '{"rows": 1200, "note": "b\u0000d \u00e9"}', reason => 'monthly'), NULL, 'an event is recorded and has an id');
RESET ROLE;
SELECT test.same($$ SELECT operation, domain, data #>> '{}', result, reason, subject, table_name, old_values, organization FROM tenancy.audit_trail WHERE operation = 'report.exported' $$,
    $$ VALUES ('report.exported', 'finding', '{"rows": 1200, "note": "b\u0000d \u00e9"}', 'success', 'monthly', 'ada', NULL::text, NULL::json, test.acme()) $$,
    'it says what was given, and who it was; JSON that Postgres could not take apart stays a text');
SET LOCAL ROLE test_application;
SELECT lives_ok($$ SELECT tenancy.record_event('x') $$, 'the action alone is enough');
RESET ROLE;
SELECT test.same($$ SELECT domain, data, result, reason FROM tenancy.audit_trail WHERE operation = 'x' $$,
    $$ VALUES ('application', NULL::json, 'success', NULL::text) $$, 'the rest has defaults');
SELECT lives_ok($$ SELECT tenancy.record_event('create_invoice') $$, 'an action may begin as the name of a statement does');
SET LOCAL ROLE test_application;
SELECT lives_ok($$ SELECT tenancy.record_event('y', data => '[1, 2]', result => 'failed') $$, 'a failure can be recorded');
RESET ROLE;
SELECT test.same($$ SELECT result, data FROM tenancy.audit_trail WHERE operation = 'y' $$, $$ VALUES ('failed', '[1, 2]'::json) $$, 'and is told from a success');

SET LOCAL ROLE test_application;
SELECT test.refused(format('SELECT tenancy.record_event(%s)', arguments), '22023', 'refused: ' || left(arguments, 60))
  FROM unnest(ARRAY[$$ '' $$, $$ 'Upper' $$, $$ 'with space' $$, $$ 'é' $$, $$ E'a\nb' $$, $$ repeat('a', 64) $$, $$ 'insert' $$, $$ 'coverage' $$, $$ 'rewrite' $$, $$ 'maintenance' $$, $$ 'delete' $$, $$ 'truncate' $$, $$ 'authorize' $$, $$ 'erase' $$, $$ 'create_policy' $$, $$ 'grant' $$, $$ 'alter_table' $$, $$ 'grant_role' $$, $$ 'capture_off' $$, $$ 'gap' $$, $$ 'protect' $$,
    $$ 'a', '' $$, $$ 'a', 'No' $$, $$ 'a', result => 'maybe' $$, $$ 'a', reason => repeat('x', 1001) $$, $$ 'a', data => to_json(repeat('x', 65536)) $$]) arguments;
SELECT test.refused('SELECT tenancy.record_event(NULL)', '22004', 'the action must be given');

SELECT tenancy.sign_out() \g /dev/null
SELECT test.refused($$ SELECT tenancy.record_event('a') $$, '28000', 'nobody records an event without a context');

SELECT * FROM finish();
ROLLBACK;
