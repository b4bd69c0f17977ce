-- How far each view has read each institution, what is parked, which rebuilds are under way, which runners are alive. Written by projections/.

-- migrate:up

CREATE TABLE tracking (
    institution text COLLATE "C" NOT NULL,
    view        text COLLATE "C" NOT NULL,
    position    bigint NOT NULL CHECK (position >= 0),
    PRIMARY KEY (institution, view)
) WITH (fillfactor = 50);
COMMENT ON TABLE tracking IS 'The last position of the institution that is in the view. Moved in the transaction that writes the view''s rows; its row lock is the claim of one runner.';

CREATE TABLE parked (
    institution text COLLATE "C" NOT NULL,
    view        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    position    bigint NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    error       text NOT NULL,
    tries       integer NOT NULL DEFAULT 1,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (institution, view, key)
);
COMMENT ON TABLE parked IS 'Keys whose fold failed, from this position on: their later events wait in the log until the key is retried. Holds no values of events.';
COMMENT ON COLUMN parked.key IS 'stream:<id> for all rows of a stream, else the row''s key as a JSON array.';

CREATE TABLE rebuild (
    institution text COLLATE "C" NOT NULL,
    view        text COLLATE "C" NOT NULL,
    slice       integer NOT NULL,
    lowest      uuid NOT NULL,
    highest     uuid NOT NULL,
    head        bigint NOT NULL,
    total       bigint NOT NULL,
    done        bigint NOT NULL DEFAULT 0,
    last        uuid,
    finished    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (institution, view, slice)
);
COMMENT ON TABLE rebuild IS 'One slice of the streams of an institution, folded up to head into the table beside the view; last is the last stream written. A row is claimed by its lock.';

CREATE TABLE rebuild_begun (
    view        text COLLATE "C" PRIMARY KEY,
    fold        text NOT NULL,
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN rebuild_begun.fold IS 'Digest of the code that folds: an interrupted rebuild goes on only with the same code, else it begins anew.';

CREATE TABLE runner_heartbeat (
    runner      uuid PRIMARY KEY,
    views       text[] NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE runner_heartbeat IS 'When each runner was last seen working or waiting for work; apart from tracking, so lag is true when no runner lives.';

GRANT SELECT, INSERT, UPDATE, DELETE ON tracking, parked, rebuild, rebuild_begun, runner_heartbeat TO anjuan_app;

-- migrate:down

DROP TABLE runner_heartbeat, rebuild_begun, rebuild, parked, tracking;
