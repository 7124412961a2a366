-- In the database that the image creates, POSTGRES_DB.
CREATE EXTENSION IF NOT EXISTS pg_tenancy;
