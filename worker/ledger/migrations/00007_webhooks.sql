-- +goose Up

-- Where events are sent. The rows are the same in every shard; those of the topology's
-- first shard are the ones that count. began is the place in each shard's events after
-- which the first one is sent.
CREATE TABLE webhooks (
    webhook_id  uuid PRIMARY KEY,
    url         text NOT NULL,
    secret      text NOT NULL,
    product_id  text COLLATE "C" NOT NULL, -- '' for all
    began       text NOT NULL,
    create_time timestamptz NOT NULL
);

-- How far each webhook is in this shard's events: what is not after the place was
-- delivered, or has a row among the deliveries that wait. It only ever goes on, so that
-- whoever believes for a moment longer that it is his turn undoes nothing.
CREATE TABLE webhook_cursors (
    webhook_id uuid PRIMARY KEY REFERENCES webhooks ON DELETE CASCADE,
    xid        xid8 NOT NULL,
    event_id   uuid NOT NULL
);

-- What could not be delivered at once, and what of the same product came after it. With a
-- dead_time it is a dead letter: nobody tries any more.
CREATE TABLE webhook_deliveries (
    webhook_id   uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    xid          xid8 NOT NULL,
    event_id     uuid NOT NULL,
    product_id   text COLLATE "C" NOT NULL,
    body         bytea NOT NULL,
    attempts     integer NOT NULL,
    next_time    timestamptz NOT NULL,
    last_error   text NOT NULL DEFAULT '',
    resent       boolean NOT NULL DEFAULT false, -- it was a dead letter: later ones do not wait for it
    dead_time    timestamptz,
    PRIMARY KEY (webhook_id, xid, event_id)
);
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook_id, product_id, xid, event_id) WHERE dead_time IS NULL;
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook_id, xid, event_id) WHERE dead_time IS NOT NULL;

-- +goose Down
DROP TABLE webhook_deliveries, webhook_cursors, webhooks;
