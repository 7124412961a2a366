-- The history that each version leaves in a folder of its own here: single changes, batches, actors of each method,
-- large and secret values, an erasure in a batch and by itself, changes of tables, savepoints, two checkpoints.
CREATE TABLE public.reading (
    organization_id uuid NOT NULL DEFAULT tenancy.org_id(),
    id integer NOT NULL,
    celsius numeric,
    note text,
    token text,
    PRIMARY KEY (organization_id, id)
);
ALTER TABLE public.reading OWNER TO test_tenancy_owner;
SELECT tenancy.protect('public.reading', secret_columns => ARRAY['token']);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.reading TO test_tenancy_application;

BEGIN;
SELECT tenancy.assume_organization('aaaaaaaa-0000-4000-8000-000000000001', 'first readings');
INSERT INTO public.reading (id, celsius, note, token)
SELECT n, n / 7.0, repeat('Messung "außen" ', n % 5), 'token ' || n FROM generate_series(1, 150) n;
SAVEPOINT undone;
DELETE FROM public.reading WHERE id > 10;
ROLLBACK TO undone;
UPDATE public.reading SET celsius = celsius + 0.5, token = 'rotated' WHERE id % 3 = 0;
UPDATE public.reading SET note = repeat('x', 9000) WHERE id = 9;
UPDATE public.reading SET id = 1009 WHERE id = 9;
DELETE FROM public.reading WHERE id = 12;
SELECT tenancy.record_event('readings.reviewed', data => '{"by": "hand"}');
COMMIT;
SELECT tenancy.checkpoint();

ALTER TABLE public.reading RENAME note TO remark;
BEGIN;
SELECT tenancy.begin_maintenance('a correction for all');
UPDATE public.reading SET remark = upper(remark) WHERE id BETWEEN 20 AND 25;
COMMIT;
BEGIN;
SELECT tenancy.assume_organization('bbbbbbbb-0000-4000-8000-000000000002', 'first readings');
INSERT INTO public.reading (id, celsius) VALUES (1, 36.6);
INSERT INTO public.reading (id, celsius) VALUES (2, -273.15);
COMMIT;
SELECT tenancy.seal();
SELECT tenancy.erase_payload(id, 'asked for by the person', 'GDPR Art. 17') FROM tenancy.event
 WHERE table_name = 'reading' AND row_key ->> 'id' IN ('7', '2') AND operation = 'insert';
SELECT tenancy.seal();
SELECT tenancy.checkpoint();
