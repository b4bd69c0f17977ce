-- The complaint list, one line per case. Its rows are written by projections/runner.py as projections/complaint.py shows them.

-- migrate:up

CREATE TABLE complaint_case (
    institution            text COLLATE "C" NOT NULL,
    complaint_id           uuid NOT NULL,
    number                 text COLLATE "C" NOT NULL,
    source                 text,
    reference              text COLLATE "C",
    stage                  text COLLATE "C" NOT NULL,
    channel                text NOT NULL,
    received_at            timestamp with time zone NOT NULL,
    accepted_at            timestamp with time zone,
    complainant_id         uuid NOT NULL,
    complainant            text,
    phone                  text,
    statement              text,
    demand                 text,
    reason                 text,
    result                 text,
    departments            text[] NOT NULL,
    accused                uuid[] NOT NULL,
    category               text NOT NULL,
    severity               text NOT NULL,
    complexity             text,
    is_dispute             boolean NOT NULL,
    owner                  uuid NOT NULL,
    offered_to             uuid,
    imported_responsible   text,
    planned_close_by       timestamp with time zone,
    responsible            uuid[] NOT NULL,
    plan_author            uuid,
    plan_submitted_to      uuid,
    plan_approver          uuid,
    plan_settlement        text,
    plan_amount            numeric,
    plan_remedies          text[] NOT NULL,
    agreed_settlement      text,
    agreed_amount          numeric,
    payment                text,
    payer                  uuid,
    settlement_pending     boolean NOT NULL,
    settlement_expected_at timestamp with time zone,
    rights_informed_at     timestamp with time zone,
    feedback_at            timestamp with time zone,
    clock_step             text,
    clock_interval         bigint,
    clock_responsible      uuid,
    clock_started_at       timestamp with time zone,
    clock_due_at           timestamp with time zone,
    clock_provisional      boolean NOT NULL,
    clock_assumed          boolean NOT NULL,
    clock_clamped          boolean NOT NULL,
    deadline_steps         text[] NOT NULL,
    deadlines              timestamp with time zone[] NOT NULL,
    next_due_at            timestamp with time zone,
    clocks_met             bigint NOT NULL,
    clocks_late            bigint NOT NULL,
    closed_at              timestamp with time zone,
    finished_at            timestamp with time zone,
    reopened_count         bigint NOT NULL,
    escalation_level       text,
    satisfaction           bigint,
    follow_up_by           timestamp with time zone,
    last_topic             text NOT NULL,
    last_work              text,
    last_actor             uuid NOT NULL,
    last_at                timestamp with time zone NOT NULL,
    position               bigint NOT NULL,
    version                bigint NOT NULL,
    recorded_at            timestamp with time zone NOT NULL,
    PRIMARY KEY (institution, complaint_id)
);
CREATE INDEX complaint_case_received ON complaint_case (institution, received_at, complaint_id);
CREATE INDEX complaint_case_number ON complaint_case (institution, number, complaint_id);
CREATE INDEX complaint_case_due ON complaint_case (institution, coalesce(next_due_at, 'infinity'), complaint_id);
CREATE INDEX complaint_case_owner ON complaint_case (institution, owner, received_at, complaint_id);
CREATE INDEX complaint_case_stage ON complaint_case (institution, stage, received_at, complaint_id);
COMMENT ON COLUMN complaint_case.number IS 'Empty until the case is accepted.';
COMMENT ON COLUMN complaint_case.deadlines IS 'Deadlines of all running clocks, soonest first; deadline_steps names their steps in the same order.';
COMMENT ON COLUMN complaint_case.next_due_at IS 'The first of deadlines. Whether it has passed depends on now, so it is not stored.';

GRANT SELECT, INSERT, UPDATE, DELETE ON complaint_case TO anjuan_app;

-- migrate:down

DROP TABLE complaint_case;
