-- +goose Up

-- The order that a purchase is a line of, and the price of one unit, in the smallest unit
-- of the order's currency; null when holdfast takes no payment for it.
ALTER TABLE purchases ADD COLUMN order_id uuid, ADD COLUMN unit_price bigint,
    ADD CONSTRAINT purchases_unit_price_is_not_negative CHECK (unit_price >= 0);
CREATE INDEX purchases_by_order ON purchases (order_id) WHERE order_id IS NOT NULL;

-- What a customer asked for in one go. It is open while its lines are being held; then it
-- is placed or has failed, for good. All its rows are in one shard.
CREATE TABLE orders (
    order_id       uuid PRIMARY KEY,
    request_id     text COLLATE "C" NOT NULL,
    customer_id    text COLLATE "C" NOT NULL,
    payment_method text NOT NULL,
    currency       text NOT NULL,  -- of the prices; empty when there are none
    content        bytea NOT NULL, -- what was asked for, to tell repetitions
    state          text  NOT NULL DEFAULT 'open',
    failure        bytea,          -- what callers are told of a failed one
    create_time    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orders_state_is_known CHECK (state IN ('open', 'placed', 'failed'))
);
CREATE INDEX orders_by_customer ON orders (customer_id, order_id);

-- The payment of an order, from before its provider is asked.
CREATE TABLE payments (
    order_id       uuid PRIMARY KEY,
    payment_method text   NOT NULL,
    currency       text   NOT NULL,
    minor_units    bigint NOT NULL,
    state          text   NOT NULL DEFAULT 'authorizing',
    reference      text   NOT NULL DEFAULT '', -- the provider's
    decline        text   NOT NULL DEFAULT '', -- why it was declined
    captured       bigint NOT NULL DEFAULT 0,
    refunded       bigint NOT NULL DEFAULT 0,
    create_time    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payments_state_is_known CHECK (state IN ('authorizing', 'authorized', 'declined', 'voided', 'captured')),
    CONSTRAINT payments_are_of_something CHECK (minor_units > 0),
    CONSTRAINT payments_refund_no_more_than_captured CHECK (refunded BETWEEN 0 AND captured AND captured <= minor_units)
);

-- What providers have to be asked for because of what has been committed. Written in that
-- very transaction, by the trigger below; done at least once, in order for each payment.
CREATE TABLE payment_tasks (
    task_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    uuid NOT NULL,
    action      text NOT NULL,
    key         text NOT NULL, -- names the task within the payment
    minor_units bigint NOT NULL,
    state       text NOT NULL DEFAULT 'pending',
    attempts    integer NOT NULL DEFAULT 0,
    next_time   timestamptz NOT NULL DEFAULT now(),
    last_error  text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL DEFAULT now(),
    end_time    timestamptz,
    CONSTRAINT payment_tasks_are_asked_for_once UNIQUE (order_id, key),
    CONSTRAINT payment_tasks_action_is_known CHECK (action IN ('capture', 'void', 'refund')),
    CONSTRAINT payment_tasks_state_is_known CHECK (state IN ('pending', 'done', 'dead'))
);
CREATE INDEX payment_tasks_due ON payment_tasks (next_time) WHERE state = 'pending';

-- Money follows units, whoever moves them: what is confirmed is captured, what is no longer
-- held is let go, what is returned is refunded. Nothing is confirmed whose payment has
-- begun and is not authorized.
--
-- A connection keeps the plans of its first call, which is of one row perhaps; the next one
-- may be of hundreds, of which a loop in a loop would compare each with each. So the changed
-- rows and those before are joined by hash. Their payments are found by a loop all the same,
-- since ANY (ARRAY[…]) can be nothing else; what Postgres thinks that costs is so much
-- that it would compile the statement first, which takes longer than anything here.
-- +goose StatementBegin
CREATE FUNCTION payments_follow_purchases() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = on SET enable_nestloop = off SET jit = off AS $$
DECLARE
    unauthorized boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM changed WHERE order_id IS NOT NULL) THEN
        RETURN NULL;
    END IF;
    WITH followed AS (
        SELECT c.order_id, c.purchase_id, c.amount, c.unit_price, b.state AS was, c.state AS becomes,
               b.released AS had_released, c.released, p.state AS payment
          FROM changed c
          JOIN before b ON b.purchase_id = c.purchase_id
          JOIN payments p ON p.order_id = ANY (ARRAY[c.order_id])
    ), asked AS (
        -- released only ever grows, so it names the refund. What is confirmed and returned in
        -- one transaction was not captured, and is let go.
        INSERT INTO payment_tasks (order_id, action, key, minor_units)
        SELECT order_id, action, key, sum(minor_units)::bigint
          FROM (SELECT order_id,
                       CASE WHEN was = 'confirmed' THEN 'refund' WHEN becomes = 'confirmed' THEN 'capture' ELSE 'void' END AS action,
                       CASE WHEN was = 'confirmed' THEN 'refund-' || purchase_id || '-' || released
                            WHEN becomes = 'confirmed' THEN 'capture' ELSE 'void' END AS key,
                       CASE WHEN was = 'confirmed' THEN (released - had_released) * unit_price
                            WHEN becomes = 'confirmed' THEN (amount - released) * unit_price ELSE 0 END AS minor_units
                  FROM followed
                 WHERE CASE was
                       WHEN 'held' THEN becomes = 'confirmed'
                                     OR becomes IN ('cancelled', 'expired', 'returned') AND payment IN ('authorizing', 'authorized')
                       WHEN 'confirmed' THEN released > had_released AND unit_price > 0 END) AS tasks
         GROUP BY order_id, action, key ORDER BY order_id, key
            ON CONFLICT (order_id, key) DO NOTHING
    )
    SELECT bool_or(becomes = 'confirmed' AND was <> 'confirmed' AND payment <> 'authorized') INTO unauthorized FROM followed;
    IF unauthorized THEN
        RAISE EXCEPTION 'purchases are confirmed whose payment is not authorized'
              USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payments_are_authorized_first';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER payments_follow_purchases AFTER UPDATE ON purchases
    REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION payments_follow_purchases();

-- +goose Down
DROP TRIGGER payments_follow_purchases ON purchases;
DROP FUNCTION payments_follow_purchases;
DROP TABLE payment_tasks, payments, orders;
ALTER TABLE purchases DROP COLUMN order_id, DROP COLUMN unit_price;
