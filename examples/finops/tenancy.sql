-- The migration that brings pg_tenancy into the product of schema.sql: who may log in, who belongs where, what each
-- role may do. Run by tools/demo.sh as a superuser, after CREATE EXTENSION.
-- psql variable: jwks_sso, the public keys of the first identity provider. Those of the second are in a key file.

-- Database roles. Nobody else may use anything in the schema tenancy.
GRANT tenancy_application TO finops_app;
GRANT tenancy_admin TO finops_owner;
GRANT tenancy_auditor TO finops_auditor;
GRANT tenancy_custodian TO finops_custodian;

-- From here on as the owner of the tables: no superuser is needed.
SET ROLE finops_owner;

-- Identity providers. The first names the organization in the claim "org_id", the second where Supabase keeps it. The
-- second signs with an HMAC secret, which is taken only from a file in the folder of tenancy.jwks_directory.
SELECT tenancy.set_issuer('https://sso.example.com', ARRAY['finops'], :'jwks_sso');
SELECT tenancy.set_issuer('https://finops.supabase.example/auth/v1', ARRAY['authenticated'], jwks_file => 'supabase.json', preset => 'supabase');

SELECT tenancy.create_organization('Northwind Traders', '11111111-1111-4111-8111-111111111111', 'northwind');
SELECT tenancy.create_organization('Contoso Health', '22222222-2222-4222-8222-222222222222', 'contoso');
SELECT tenancy.create_organization('Initech Bank', '33333333-3333-4333-8333-333333333333', 'initech');

-- The permission matrix, beside the roles viewer, member, admin and auditor that every database has.
SELECT tenancy.create_role('analyst', 'Works on findings and proposes actions');
SELECT tenancy.grant_permission('analyst', 'cloud_account', 'read');
SELECT tenancy.grant_permission('analyst', 'finding', 'read', 'update');
SELECT tenancy.grant_permission('analyst', 'remediation_action', 'read', 'create');

-- Members: the subject is the "sub" claim of their tokens.
SELECT tenancy.set_membership('11111111-1111-4111-8111-111111111111', 'alice', 'analyst', 'https://sso.example.com');
SELECT tenancy.set_membership('11111111-1111-4111-8111-111111111111', 'carol', 'admin', 'https://sso.example.com');
SELECT tenancy.set_membership('11111111-1111-4111-8111-111111111111', 'dan', 'admin', 'https://sso.example.com');
SELECT tenancy.set_membership('22222222-2222-4222-8222-222222222222', 'bob', 'admin', 'https://sso.example.com');
SELECT tenancy.set_membership('33333333-3333-4333-8333-333333333333', 'victor', 'viewer',
                              'https://finops.supabase.example/auth/v1');

RESET ROLE;
