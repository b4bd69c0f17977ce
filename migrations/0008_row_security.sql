-- Institutions kept apart by the database too: row-level security on every table that has an institution, and a role for each kind of work.

-- migrate:up

-- Puts tables under the rule that a transaction sees and adds the rows of the institution it has said, and none if it has
-- said none. Every later migration calls it for each new table with a column `institution`; a test holds it to that.
-- The runner and whoever else works for all institutions at once are members of anjuan_runner.
CREATE FUNCTION keep_apart(VARIADIC tables regclass[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one regclass;
BEGIN
    FOREACH one IN ARRAY tables LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', one);
        EXECUTE format('CREATE POLICY one_institution ON %s USING (institution = current_setting(%L, true))',
                       one, 'anjuan.institution');
        EXECUTE format('CREATE POLICY every_institution ON %s TO anjuan_runner USING (true)', one);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION keep_apart FROM PUBLIC;

-- What an interrupted rebuild made is without the rule, and is begun anew.
DELETE FROM rebuild_begun;

SELECT keep_apart('institution_position', 'event', 'subject_key', 'tracking', 'parked', 'rebuild', 'complaint_case',
                  'complaint_clock', 'history', 'api_token', 'identity_link', 'local_user');

-- Questions of the edge: they look, and at no keys, tokens or passwords.
GRANT USAGE ON SCHEMA anjuan TO anjuan_reader, anjuan_runner;
GRANT SELECT ON schema_migration, institution_position, event, tracking, parked, runner_heartbeat, complaint_case,
                complaint_clock, history TO anjuan_reader;
GRANT SELECT ON api_token, identity_link TO anjuan_reader;

-- Commands: they append, and look at views; only runners write views and say how far those have read.
REVOKE INSERT, UPDATE, DELETE ON tracking, parked, rebuild, rebuild_begun, runner_heartbeat, complaint_case,
                                 complaint_clock, history FROM anjuan_app;

-- Runners, rebuilds, verification, operators: all institutions, but nothing is appended without saying to which.
GRANT SELECT ON schema_migration, institution_position, event, subject_key, api_token, identity_link, local_user
             TO anjuan_runner;
GRANT SELECT, INSERT, UPDATE, DELETE ON tracking, parked, rebuild, rebuild_begun, runner_heartbeat, complaint_case,
                                        complaint_clock, history TO anjuan_runner;

-- Logins that did everything as anjuan_app go on doing so, in the role of each kind of work.
DO $$
DECLARE
    login record;
BEGIN
    FOR login IN
        SELECT member.rolname, wanted.role
        FROM pg_auth_members AS held
        JOIN pg_roles AS member ON member.oid = held.member
        CROSS JOIN (VALUES ('anjuan_reader'), ('anjuan_runner')) AS wanted (role)
        WHERE held.roleid = 'anjuan_app'::regrole AND member.rolcanlogin
          AND NOT pg_has_role(member.oid, wanted.role, 'MEMBER')
    LOOP
        BEGIN
            EXECUTE format('GRANT %I TO %I', login.role, login.rolname);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION '% may not make % a member of %; have an administrator run: GRANT anjuan_reader, anjuan_runner TO %',
                            current_user, login.rolname, login.role, quote_ident(login.rolname)
                USING ERRCODE = 'insufficient_privilege';
        END;
    END LOOP;
END
$$;

-- Whose a token or a linked identity is, asked before it is known which institution asks. Nothing but the institution's
-- code comes out, and only to whoever knows the whole digest.
CREATE FUNCTION institution_of_token(sha256 bytea) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = anjuan, pg_temp AS $$
    SELECT institution FROM api_token WHERE token_sha256 = sha256
$$;
CREATE FUNCTION institution_of_identity(sha256 bytea) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = anjuan, pg_temp AS $$
    SELECT institution FROM identity_link WHERE identity_sha256 = sha256
$$;
REVOKE EXECUTE ON FUNCTION institution_of_token, institution_of_identity FROM PUBLIC;
GRANT EXECUTE ON FUNCTION institution_of_token, institution_of_identity TO anjuan_reader, anjuan_app;

-- PostgreSQL takes coalesce for leaky, and looks for nothing leaky in an index of a table under the rule.
DROP INDEX complaint_case_due, complaint_clock_running, complaint_clock_responsible;
CREATE INDEX complaint_case_due
    ON complaint_case (institution, (CASE WHEN next_due_at IS NULL THEN 'infinity' ELSE next_due_at END), complaint_id);
CREATE INDEX complaint_clock_running
    ON complaint_clock (institution, (CASE WHEN due_at IS NULL THEN 'infinity' ELSE due_at END), complaint_id, step, interval)
    WHERE stopped_at IS NULL;
CREATE INDEX complaint_clock_responsible
    ON complaint_clock (institution, responsible, (CASE WHEN due_at IS NULL THEN 'infinity' ELSE due_at END), complaint_id, step, interval)
    WHERE stopped_at IS NULL;

-- Appends a command in one round trip, all or none; the position of the first event. Says for which institution itself,
-- and says nothing after the transaction. Takes the institution's turn as take_positions does, and stores each event as
-- store_event does, without a call for each.
CREATE OR REPLACE FUNCTION append_events(
    in_institution text, ids uuid[], versions integer[], event_ids uuid[], in_command uuid, in_actor uuid,
    in_occurred timestamptz[], topics text[], states bytea[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n integer := cardinality(ids);
    first_position bigint;
    stored_at timestamptz;
BEGIN
    PERFORM set_config('anjuan.institution', in_institution, true);
    UPDATE institution_position AS head
       SET position = head.position + n, recorded_at = greatest(clock_timestamp(), head.recorded_at)
     WHERE head.institution = in_institution
    RETURNING head.position - n + 1, head.recorded_at INTO first_position, stored_at;
    IF NOT FOUND THEN
        SELECT * INTO first_position, stored_at FROM take_positions(in_institution, n);
    END IF;
    FOR i IN 1 .. n LOOP
        IF versions[i] > 1 AND NOT EXISTS (
            SELECT FROM event
             WHERE institution = in_institution AND originator_id = ids[i] AND originator_version = versions[i] - 1
        ) THEN
            RAISE EXCEPTION 'version % of stream % does not follow its last event', versions[i], ids[i]
                USING ERRCODE = 'AJ001';
        END IF;
        INSERT INTO event (institution, position, originator_id, originator_version, event_id, command_id, actor,
                           occurred_at, recorded_at, topic, state)
        VALUES (in_institution, first_position + i - 1, ids[i], versions[i], event_ids[i], in_command, in_actor,
                in_occurred[i], stored_at, topics[i], states[i]);
    END LOOP;
    RETURN first_position;
END
$$;
DROP FUNCTION store_event;

-- migrate:down

CREATE FUNCTION store_event(
    in_institution text, in_position bigint, id uuid, version integer, in_event uuid, in_command uuid, in_actor uuid,
    in_occurred timestamptz, in_recorded timestamptz, in_topic text, in_state bytea
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF version > 1 AND NOT EXISTS (
        SELECT FROM event
         WHERE institution = in_institution AND originator_id = id AND originator_version = version - 1
    ) THEN
        RAISE EXCEPTION 'version % of stream % does not follow its last event', version, id USING ERRCODE = 'AJ001';
    END IF;
    INSERT INTO event (institution, position, originator_id, originator_version, event_id, command_id, actor,
                       occurred_at, recorded_at, topic, state)
    VALUES (in_institution, in_position, id, version, in_event, in_command, in_actor, in_occurred, in_recorded,
            in_topic, in_state);
END
$$;
CREATE OR REPLACE FUNCTION append_events(
    in_institution text, ids uuid[], versions integer[], event_ids uuid[], in_command uuid, in_actor uuid,
    in_occurred timestamptz[], topics text[], states bytea[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first_position bigint;
    stored_at timestamptz;
BEGIN
    SELECT * INTO first_position, stored_at FROM take_positions(in_institution, cardinality(ids));
    FOR i IN 1 .. cardinality(ids) LOOP
        PERFORM store_event(in_institution, first_position + i - 1, ids[i], versions[i], event_ids[i], in_command,
                            in_actor, in_occurred[i], stored_at, topics[i], states[i]);
    END LOOP;
    RETURN first_position;
END
$$;
DROP FUNCTION institution_of_token, institution_of_identity;
DROP INDEX complaint_case_due, complaint_clock_running, complaint_clock_responsible;
CREATE INDEX complaint_case_due ON complaint_case (institution, coalesce(next_due_at, 'infinity'), complaint_id);
CREATE INDEX complaint_clock_running
    ON complaint_clock (institution, coalesce(due_at, 'infinity'), complaint_id, step, interval)
    WHERE stopped_at IS NULL;
CREATE INDEX complaint_clock_responsible
    ON complaint_clock (institution, responsible, coalesce(due_at, 'infinity'), complaint_id, step, interval)
    WHERE stopped_at IS NULL;
GRANT INSERT, UPDATE, DELETE ON tracking, parked, rebuild, rebuild_begun, runner_heartbeat, complaint_case,
                                complaint_clock, history TO anjuan_app;
DO $$
DECLARE
    one regclass;
BEGIN
    FOR one IN SELECT DISTINCT polrelid::regclass FROM pg_policy WHERE polname = 'one_institution' LOOP
        EXECUTE format('DROP POLICY one_institution ON %s', one);
        EXECUTE format('DROP POLICY every_institution ON %s', one);
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', one);
    END LOOP;
END
$$;
REVOKE ALL ON ALL TABLES IN SCHEMA anjuan FROM anjuan_reader, anjuan_runner;
REVOKE USAGE ON SCHEMA anjuan FROM anjuan_reader, anjuan_runner;
DROP FUNCTION keep_apart;
