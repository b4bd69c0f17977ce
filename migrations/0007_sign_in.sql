-- Ways in: tokens by events, passwords, identities of OpenID issuers, and what slows guessing down. Written by api/access.

-- migrate:up

-- A token's particulars are in its holder's history from now on; here is only whose history to ask. Tokens that were
-- made before have a label and open nothing until `anjuan migrate` has told them to their holders' histories.
ALTER TABLE api_token ALTER COLUMN label DROP NOT NULL;
COMMENT ON TABLE api_token IS 'Whose history knows a token. Asked before it is known which institution asks. Small: on a distributed database a reference table.';
COMMENT ON COLUMN api_token.label IS 'Only of a token made by an earlier version that is not yet in its holder''s history.';

CREATE TABLE identity_link (
    identity_sha256 bytea PRIMARY KEY CHECK (octet_length(identity_sha256) = 32),
    institution     text COLLATE "C" NOT NULL,
    staff_id        uuid NOT NULL
);
COMMENT ON TABLE identity_link IS 'Whose history knows an identity (issuer and subject) elsewhere. Asked before it is known which institution asks.';

CREATE TABLE local_user (
    institution   text COLLATE "C" NOT NULL,
    number        text COLLATE "C" NOT NULL,
    staff_id      uuid NOT NULL,
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    set_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (institution, number),
    UNIQUE (institution, staff_id)
);
COMMENT ON TABLE local_user IS 'Who signs in with a staff number and a password; the password by Argon2id only.';

CREATE TABLE sign_in_attempt (
    kind     text COLLATE "C" NOT NULL CHECK (kind IN ('address', 'account', 'account_at_address')),
    bucket   integer NOT NULL CHECK (bucket BETWEEN 0 AND 1048575),
    failures double precision NOT NULL DEFAULT 0,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at  timestamptz NOT NULL DEFAULT to_timestamp(0),
    known    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (kind, bucket)
) WITH (fillfactor = 50);
COMMENT ON TABLE sign_in_attempt IS 'Failed sign-ins, counted in a fixed number of buckets so that no flood of names or addresses makes it large. Belongs to no institution and names nobody.';
COMMENT ON COLUMN sign_in_attempt.known IS 'Somebody has signed in to this account from this address: others'' failures do not slow them down.';

GRANT SELECT, INSERT, UPDATE ON identity_link, local_user, sign_in_attempt TO anjuan_app;
GRANT DELETE ON identity_link TO anjuan_app;

-- migrate:down

DROP TABLE sign_in_attempt, local_user, identity_link;
UPDATE api_token SET label = '' WHERE label IS NULL;
ALTER TABLE api_token ALTER COLUMN label SET NOT NULL;
