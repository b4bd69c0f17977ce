-- The clocks of complaint cases, one line per step and interval. Its rows are written by projections/runner.py as projections/clock.py shows them.

-- migrate:up

CREATE TABLE complaint_clock (
    institution     text COLLATE "C" NOT NULL,
    complaint_id    uuid NOT NULL,
    step            text COLLATE "C" NOT NULL,
    interval        bigint NOT NULL,
    kind            text NOT NULL,
    responsible     uuid NOT NULL,
    started_at      timestamp with time zone NOT NULL,
    counted_from    timestamp with time zone NOT NULL,
    due_at          timestamp with time zone,
    due_provisional boolean NOT NULL,
    policy          uuid,
    policy_version  bigint NOT NULL,
    rule            text NOT NULL,
    assumed         boolean NOT NULL,
    clamped         boolean NOT NULL,
    started_version bigint NOT NULL,
    stopped_at      timestamp with time zone,
    outcome         text,
    late_seconds    bigint NOT NULL,
    position        bigint NOT NULL,
    version         bigint NOT NULL,
    recorded_at     timestamp with time zone NOT NULL,
    PRIMARY KEY (institution, complaint_id, step, interval)
);
CREATE INDEX complaint_clock_running ON complaint_clock (institution, coalesce(due_at, 'infinity'), complaint_id, step, interval)
    WHERE stopped_at IS NULL;
CREATE INDEX complaint_clock_responsible
    ON complaint_clock (institution, responsible, coalesce(due_at, 'infinity'), complaint_id, step, interval)
    WHERE stopped_at IS NULL;
CREATE INDEX complaint_clock_late ON complaint_clock (institution, stopped_at, complaint_id, step, interval)
    WHERE outcome = 'late';
COMMENT ON COLUMN complaint_clock.counted_from IS 'The moment the time allowed is counted from; before started_at where an earlier interval of the same duty was replaced.';

GRANT SELECT, INSERT, UPDATE, DELETE ON complaint_clock TO anjuan_app;

-- migrate:down

DROP TABLE complaint_clock;
