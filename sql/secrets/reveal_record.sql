-- What is known of reveals besides their events: how far their records were taken in, and who used which version last.
-- Code: src/secrets/reveal_record.rs.

-- Not in dumps: the folders that it names are of this database.
CREATE TABLE tenancy.reveal_journal (
    folder text COLLATE "C" PRIMARY KEY,
    segment bigint NOT NULL CHECK (segment >= 0),
    "offset" bigint NOT NULL CHECK ("offset" >= 0),
    records bigint NOT NULL CHECK (records >= 0),
    taken_in_at timestamptz NOT NULL
);
COMMENT ON TABLE tenancy.reveal_journal IS
'How far the records of reveals were taken in, which are files in the data folder. Whoever seals makes an event of each
record and moves the row in the same transaction. A row stays when its folder is gone, so that a copy of the folder in
a backup is not taken in again.';
COMMENT ON COLUMN tenancy.reveal_journal.folder IS
'Name of the folder in pg_tenancy, in the data folder: system identifier, database, table, timeline and start of the server.';
COMMENT ON COLUMN tenancy.reveal_journal.segment IS 'Number of the segment that was read last.';
COMMENT ON COLUMN tenancy.reveal_journal."offset" IS 'How many bytes of the segment were read.';
COMMENT ON COLUMN tenancy.reveal_journal.records IS 'How many records of the folder were taken in.';
COMMENT ON COLUMN tenancy.reveal_journal.taken_in_at IS 'When the row last moved.';

-- No foreign key: a value can be revealed in the transaction that stores it, which may roll back.
CREATE TABLE tenancy.secret_use (
    secret uuid NOT NULL,
    number integer NOT NULL,
    organization uuid NOT NULL,
    issuer text COLLATE "C",
    subject text COLLATE "C",
    last_used_at timestamptz NOT NULL,
    uses bigint NOT NULL CHECK (uses > 0),
    UNIQUE NULLS NOT DISTINCT (secret, number, issuer, subject)
);
COMMENT ON TABLE tenancy.secret_use IS
'Who revealed which version of a secret, how often and when last. Kept by whoever seals, from the records of reveals, so
it lags behind them as events do. Members read the uses of the secrets that they may read.';
COMMENT ON COLUMN tenancy.secret_use.secret IS 'The secret, in tenancy.secret.';
COMMENT ON COLUMN tenancy.secret_use.number IS 'Number of the version.';
COMMENT ON COLUMN tenancy.secret_use.organization IS 'The organization of the context that revealed it.';
COMMENT ON COLUMN tenancy.secret_use.issuer IS 'Issuer of who revealed it; NULL without a token.';
COMMENT ON COLUMN tenancy.secret_use.subject IS 'Subject of who revealed it; NULL without one.';
COMMENT ON COLUMN tenancy.secret_use.last_used_at IS 'When it was last revealed.';
COMMENT ON COLUMN tenancy.secret_use.uses IS 'How often it was revealed.';

SELECT pg_extension_config_dump('tenancy.secret_use', '');

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['reveal_journal', 'secret_use'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_secret_keys BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_secret_keys()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_secret_keys', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_secret_keys ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
    END LOOP;
END
$$;
CREATE POLICY every_organization ON tenancy.reveal_journal FOR SELECT TO tenancy_auditor USING (true);
CREATE POLICY own_organization ON tenancy.secret_use FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND EXISTS (SELECT FROM tenancy.secret s WHERE s.id = secret));
CREATE POLICY every_organization ON tenancy.secret_use FOR SELECT TO tenancy_auditor USING (true);
