-- By a superuser, once. psql variable jwks: the public keys of whoever signs the tokens.
CREATE EXTENSION pg_tenancy;
CREATE TABLE invoice (id integer PRIMARY KEY, organization_id uuid NOT NULL, total numeric NOT NULL);
INSERT INTO invoice VALUES (1, '0a000000-0000-4000-8000-000000000000', 120),
                           (2, '0a000000-0000-4000-8000-000000000000', 80),
                           (3, '0b000000-0000-4000-8000-000000000000', 999);
CREATE ROLE shop_app;
GRANT tenancy_application TO shop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON invoice TO shop_app;

SELECT tenancy.set_issuer('https://id.example/', ARRAY['shop'], :'jwks');
SELECT tenancy.create_organization('Acme', '0a000000-0000-4000-8000-000000000000');
SELECT tenancy.create_organization('Bolt', '0b000000-0000-4000-8000-000000000000');
SELECT tenancy.set_membership('0a000000-0000-4000-8000-000000000000', 'ann', 'member');
SELECT tenancy.set_membership('0b000000-0000-4000-8000-000000000000', 'bob', 'member');

SELECT tenancy.protect('invoice');
