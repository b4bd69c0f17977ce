-- The history, one line per event of any stream, in words. Its rows are written by projections/runner.py as projections/history.py shows them.

-- migrate:up

CREATE TABLE history (
    institution text COLLATE "C" NOT NULL,
    stream_id   uuid NOT NULL,
    version     bigint NOT NULL,
    aggregate   text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    actor       uuid NOT NULL,
    command_id  uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    subjects    uuid[] NOT NULL,
    changes     jsonb NOT NULL,
    position    bigint NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    PRIMARY KEY (institution, stream_id, version)
);
CREATE INDEX history_position ON history (institution, position);
CREATE INDEX history_actor ON history (institution, actor, position);
COMMENT ON COLUMN history.changes IS 'What the event said: a list of {field, values, personal}. Personal fields are named without their values.';

GRANT SELECT, INSERT, UPDATE, DELETE ON history TO anjuan_app;

-- migrate:down

DROP TABLE history;
