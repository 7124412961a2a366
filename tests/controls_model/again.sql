-- What a printed run of tests/controls_model.rs stands on: it is said again over connections of dblink, and what is
-- answered otherwise than then is a WARNING. Ids are others each time: those of the run stand for those of now.
CREATE EXTENSION dblink;
CREATE TEMP TABLE id (was text PRIMARY KEY, now text NOT NULL);
CREATE TEMP TABLE process (connection text PRIMARY KEY, pid integer NOT NULL);
CREATE TEMP TABLE step (number integer PRIMARY KEY, same boolean NOT NULL);

CREATE FUNCTION pg_temp.open(connection text, role text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dblink_connect(connection, format('dbname=%s user=%s host=%s port=%s', current_database(), role,
        split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')));
    INSERT INTO process SELECT connection, p.pid FROM dblink(connection, 'SELECT pg_backend_pid()') AS p (pid integer);
END $$;

-- A text of the run with the tokens and ids of now.
CREATE FUNCTION pg_temp.now(said text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT i.was, i.now FROM id i WHERE strpos(said, i.was) > 0 LOOP
        said := replace(said, one.was, one.now);
    END LOOP;
    RETURN said;
END $$;

-- What a connection answers: the value, an SQLSTATE, or nothing where the last statement has no result.
CREATE FUNCTION pg_temp.ask(connection text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    SELECT t.answer INTO said FROM dblink(connection, pg_temp.now(sql)) AS t (answer text);
    RETURN CASE WHEN strpos(sql, 'SELECT') > 0 THEN coalesce(said, '') ELSE '' END;
EXCEPTION WHEN OTHERS THEN
    RETURN 'refused ' || SQLSTATE;
END $$;

-- `was` is what was answered in the run; NULL: anything but a refusal.
CREATE FUNCTION pg_temp.compare(number integer, was text, is_now text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    uuid CONSTANT text := '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
    same boolean;
BEGIN
    INSERT INTO id
    SELECT w.found[1], n.found[1]
      FROM regexp_matches(was, uuid, 'g') WITH ORDINALITY AS w (found, place)
      JOIN regexp_matches(is_now, uuid, 'g') WITH ORDINALITY AS n (found, place) USING (place)
        ON CONFLICT DO NOTHING;
    same := CASE WHEN was IS NULL THEN is_now NOT LIKE 'refused%' ELSE pg_temp.now(was) = is_now END;
    INSERT INTO step VALUES (number, same);
    IF NOT same THEN
        RAISE WARNING 'step %: % instead of %', number, is_now, coalesce(was, 'what is no refusal');
    END IF;
END $$;

CREATE FUNCTION pg_temp.say(number integer, connection text, sql text, was text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.compare(number, was, pg_temp.ask(connection, sql));
$$;

-- Says what has to wait for another connection, which ends meanwhile.
CREATE FUNCTION pg_temp.wait(number integer, connection text, sql text, was text, holder text, ending text, ended text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    said text;
    answer text := '';
BEGIN
    PERFORM dblink_send_query(connection, pg_temp.now(sql));
    LOOP
        EXIT WHEN dblink_is_busy(connection) = 0 OR EXISTS (
            SELECT FROM pg_locks l JOIN process p USING (pid) WHERE p.connection = wait.connection AND NOT l.granted);
        PERFORM pg_sleep(0.01);
    END LOOP;
    said := pg_temp.ask(holder, ending);
    IF said IS DISTINCT FROM coalesce(ended, '') THEN
        RAISE WARNING 'step %: the other connection is answered % instead of %', number, said, coalesce(ended, '');
    END IF;
    -- Until there is no result left.
    LOOP
        BEGIN
            SELECT t.answer INTO said FROM dblink_get_result(connection) AS t (answer text);
            EXIT WHEN NOT FOUND;
            answer := said;
        EXCEPTION WHEN OTHERS THEN
            answer := 'refused ' || SQLSTATE;
        END;
    END LOOP;
    PERFORM pg_temp.compare(number, was, coalesce(answer, ''));
END $$;
