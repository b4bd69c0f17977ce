-- The log of reads of personal data, and the glasses that were broken to read. Written by api/access/read_log.py and projections/runner.py.

-- migrate:up

CREATE SEQUENCE read_log_entry AS bigint CACHE 100;

CREATE TABLE read_log (
    institution text COLLATE "C" NOT NULL,
    read_at     timestamptz NOT NULL,
    entry       bigint NOT NULL,
    reader      uuid NOT NULL,
    token_id    text NOT NULL,
    road        text NOT NULL CHECK (road IN ('question', 'command', 'subscription')),
    purpose     text CHECK (char_length(purpose) BETWEEN 1 AND 200),
    document    bytea NOT NULL CHECK (octet_length(document) = 32),
    operation   text,
    correlation text NOT NULL,
    view        text NOT NULL,
    fields      text[] NOT NULL CHECK (cardinality(fields) > 0),
    subjects    uuid[] NOT NULL CHECK (cardinality(subjects) > 0),
    glass       uuid,
    position    bigint NOT NULL,
    PRIMARY KEY (institution, read_at, entry),
    CHECK (glass IS NULL OR purpose IS NOT NULL)
);
CREATE INDEX read_log_reader ON read_log (institution, reader, read_at, entry);
CREATE INDEX read_log_glass ON read_log (institution, glass, read_at, entry) WHERE glass IS NOT NULL;
COMMENT ON TABLE read_log IS 'Who saw whose personal data unmasked: stored before the answer left. Never a value, only which columns of whom.';
COMMENT ON COLUMN read_log.document IS 'SHA-256 of the GraphQL document that asked.';
COMMENT ON COLUMN read_log.subjects IS 'Whose data it was; read_log_subject finds an entry by each of them.';
COMMENT ON COLUMN read_log.position IS 'Position of the institution when the entry was stored: what was shown is not newer.';
COMMENT ON COLUMN read_log.glass IS 'The broken glass that allowed it; null when the reader''s post did.';

CREATE TABLE read_log_subject (
    institution text COLLATE "C" NOT NULL,
    subject     uuid NOT NULL,
    read_at     timestamptz NOT NULL,
    entry       bigint NOT NULL,
    PRIMARY KEY (institution, subject, read_at, entry)
);
COMMENT ON TABLE read_log_subject IS 'Entries of read_log by whose data it was; stored with them.';

CREATE FUNCTION refuse_forgetting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: what was read stays read', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER read_log_is_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON read_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_forgetting();
ALTER TABLE read_log ENABLE ALWAYS TRIGGER read_log_is_immutable;
CREATE TRIGGER read_log_subject_is_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON read_log_subject
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_forgetting();
ALTER TABLE read_log_subject ENABLE ALWAYS TRIGGER read_log_subject_is_immutable;

CREATE TABLE broken_glass (
    institution    text COLLATE "C" NOT NULL,
    staff_id       uuid NOT NULL,
    glass_id       uuid NOT NULL,
    case_id        uuid NOT NULL,
    reason         text NOT NULL,
    broken_at      timestamp with time zone NOT NULL,
    until          timestamp with time zone NOT NULL,
    mended_at      timestamp with time zone,
    policy_version bigint NOT NULL,
    position       bigint NOT NULL,
    version        bigint NOT NULL,
    recorded_at    timestamp with time zone NOT NULL,
    PRIMARY KEY (institution, staff_id, glass_id)
);
CREATE INDEX broken_glass_broken ON broken_glass (institution, broken_at, staff_id, glass_id);
CREATE INDEX broken_glass_staff ON broken_glass (institution, staff_id, broken_at, glass_id);
CREATE INDEX broken_glass_case ON broken_glass (institution, case_id, broken_at, staff_id, glass_id);

SELECT keep_apart('read_log', 'read_log_subject', 'broken_glass');

GRANT USAGE ON SEQUENCE read_log_entry TO anjuan_app;
GRANT SELECT, INSERT ON read_log, read_log_subject TO anjuan_app;
GRANT SELECT ON read_log, read_log_subject TO anjuan_reader, anjuan_runner;
GRANT SELECT, INSERT, UPDATE, DELETE ON broken_glass TO anjuan_runner;
GRANT SELECT ON broken_glass TO anjuan_app, anjuan_reader;

-- migrate:down

DROP TABLE broken_glass, read_log_subject, read_log;
DROP SEQUENCE read_log_entry;
DROP FUNCTION refuse_forgetting();
