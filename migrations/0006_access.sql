-- Who may come in: bearer tokens, of which only the SHA-256 is kept. Written by api/access.py.

-- migrate:up

CREATE TABLE api_token (
    token_sha256 bytea PRIMARY KEY CHECK (octet_length(token_sha256) = 32),
    institution  text COLLATE "C" NOT NULL,
    staff_id     uuid NOT NULL,
    label        text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
COMMENT ON TABLE api_token IS 'A token stands for one staff member of one institution; what they may do follows from their posts. Small: on a distributed database a reference table.';
CREATE INDEX api_token_of_staff ON api_token (institution, staff_id, created_at);

GRANT SELECT, INSERT, UPDATE ON api_token TO anjuan_app;

-- migrate:down

DROP TABLE api_token;
