\echo Use "ALTER EXTENSION pg_tenancy UPDATE" to load this file. \quit
-- From 0.1.0 to 0.2.0. CONTRIBUTING.md says how a change of sql/ gets in here, and tests/upgrade.rs what is missing.

-- As in sql/schema.sql: plain names mean those of Postgres.
SET LOCAL search_path = pg_catalog, pg_temp;
