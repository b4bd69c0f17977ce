-- The histories: immutable events, one gapless counter per institution, and the wrapped keys of the people in them. Written by domain/store/recorder.py.

-- migrate:up

CREATE TABLE institution_position (
    institution text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL CHECK (position >= 0),
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE institution_position IS 'Head of each institution: position and time of its last event. One row per institution orders its appends; followers poll it.';

CREATE TABLE event (
    institution        text COLLATE "C" NOT NULL,
    position           bigint NOT NULL,
    originator_id      uuid NOT NULL,
    originator_version integer NOT NULL,
    event_id           uuid NOT NULL,
    command_id         uuid NOT NULL,
    actor              uuid NOT NULL,
    occurred_at        timestamptz NOT NULL,
    recorded_at        timestamptz NOT NULL,
    topic              text COLLATE "C" NOT NULL,
    state              bytea NOT NULL,
    PRIMARY KEY (institution, originator_id, originator_version),
    UNIQUE (institution, position),
    UNIQUE (institution, event_id)
);
ALTER TABLE event ALTER COLUMN state SET STORAGE EXTERNAL;
COMMENT ON COLUMN event.state IS 'The exact bytes of the event body: canonical JSON, personal fields encrypted under the subject''s key.';
COMMENT ON COLUMN event.recorded_at IS 'Said by the database while the counter row is held: never before that of a lower position.';

CREATE TABLE subject_key (
    institution text COLLATE "C" NOT NULL,
    subject     uuid NOT NULL,
    wrapped     bytea NOT NULL,
    master      text COLLATE "C" NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (institution, subject)
);
COMMENT ON TABLE subject_key IS 'One AES-256 key per person, wrapped by the master key named in master.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: events are never changed; record a new fact instead', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER event_is_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE event ENABLE ALWAYS TRIGGER event_is_immutable;

-- Takes the institution's turn: the counter row is held until the transaction ends, so appends of an institution are
-- ordered as they commit, positions are gapless and several streams cannot deadlock. Gives the first of n positions.
CREATE FUNCTION take_positions(in_institution text, n integer, OUT first_position bigint, OUT stored_at timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        UPDATE institution_position AS head
           SET position = head.position + n, recorded_at = greatest(clock_timestamp(), head.recorded_at)
         WHERE head.institution = in_institution
        RETURNING head.position - n + 1, head.recorded_at INTO first_position, stored_at;
        EXIT WHEN FOUND;
        INSERT INTO institution_position VALUES (in_institution, 0, clock_timestamp()) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Stores one event in its place. AJ001: its version does not follow the stream's last event. Rows go in by VALUES, so
-- that a duplicate is a 23505 on a distributed table too.
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

-- Appends a command of several events in one round trip, all or none; the position of the first.
CREATE FUNCTION append_events(
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

GRANT SELECT, INSERT ON event TO anjuan_app;
GRANT SELECT, INSERT, UPDATE ON institution_position TO anjuan_app;
GRANT SELECT, INSERT ON subject_key TO anjuan_app;

-- migrate:down

DROP FUNCTION append_events, store_event, take_positions;
DROP TABLE subject_key, event, institution_position;
DROP FUNCTION refuse_change();
