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

-- Appends one command's events in one round trip. The counter row is taken first, so appends of an institution are
-- ordered, positions are gapless and several streams cannot deadlock. Rows go in by VALUES (see the blueprint on Citus).
-- Returns the position of the first event and the time of recording. AJ001: a version does not follow its stream.
CREATE FUNCTION append_events(
    in_institution text, ids uuid[], versions integer[], event_ids uuid[], in_command uuid, in_actor uuid,
    in_occurred timestamptz[], topics text[], states bytea[], OUT first_position bigint, OUT stored_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    n CONSTANT integer := cardinality(ids);
BEGIN
    UPDATE institution_position AS head
       SET position = head.position + n, recorded_at = greatest(clock_timestamp(), head.recorded_at)
     WHERE head.institution = in_institution
    RETURNING head.position - n + 1, head.recorded_at INTO first_position, stored_at;
    IF NOT FOUND THEN
        INSERT INTO institution_position VALUES (in_institution, 0, clock_timestamp()) ON CONFLICT DO NOTHING;
        UPDATE institution_position AS head
           SET position = head.position + n, recorded_at = greatest(clock_timestamp(), head.recorded_at)
         WHERE head.institution = in_institution
        RETURNING head.position - n + 1, head.recorded_at INTO first_position, stored_at;
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
END
$$;

GRANT SELECT, INSERT ON event TO anjuan_app;
GRANT SELECT, INSERT, UPDATE ON institution_position TO anjuan_app;
GRANT SELECT, INSERT ON subject_key TO anjuan_app;

-- migrate:down

DROP FUNCTION append_events(text, uuid[], integer[], uuid[], uuid, uuid, timestamptz[], text[], bytea[]);
DROP TABLE subject_key, event, institution_position;
DROP FUNCTION refuse_change();
