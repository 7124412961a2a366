-- For suites of the advisor: leaks that are found and mended, and what is clean.

-- One leak: not found before, found after, gone once it is mended as printed. Everything is taken back at the end.
CREATE FUNCTION test.leak(wanted text, leak text, about text, expected_severity text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before bigint; found_severity text; remediation text; after bigint; problem text;
BEGIN
    BEGIN
        SELECT count(*) INTO before FROM tenancy.advise() a WHERE a.rule = wanted AND a.object = about;
        EXECUTE leak;
        SELECT a.severity, a.remediation INTO found_severity, remediation FROM tenancy.advise() a WHERE a.rule = wanted AND a.object = about;
        IF remediation IS NOT NULL AND remediation NOT LIKE '--%' THEN
            EXECUTE remediation;
            SELECT count(*) INTO after FROM tenancy.advise() a WHERE a.rule = wanted AND a.object = about;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'ZZ999';
    EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
        NULL;
    WHEN OTHERS THEN
        problem := SQLERRM;
    END;
    RETURN NEXT is(before, 0::bigint, wanted || ': nothing before');
    RETURN NEXT is(found_severity, expected_severity, wanted || ' finds: ' || leak);
    RETURN NEXT is(coalesce(after, -1), 0::bigint, format('%s is mended by: %s%s', wanted, remediation, E'\n  problem: ' || problem));
END
$$;

-- The statements leave nothing for the rule to find.
CREATE FUNCTION test.clean(wanted text, statements text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text[]; found text[]; problem text;
BEGIN
    BEGIN
        SELECT array_agg(a.key) INTO before FROM tenancy.advise() a WHERE a.rule = wanted;
        EXECUTE statements;
        SELECT array_agg(a.key || ' ' || a.severity) INTO found FROM tenancy.advise() a WHERE a.rule = wanted AND a.key <> ALL (coalesce(before, '{}'));
        RAISE EXCEPTION USING ERRCODE = 'ZZ999';
    EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
        NULL;
    WHEN OTHERS THEN
        problem := SQLERRM;
    END;
    RETURN is(coalesce(problem, found::text), NULL, format('%s has nothing against: %s', wanted, statements));
END
$$;
