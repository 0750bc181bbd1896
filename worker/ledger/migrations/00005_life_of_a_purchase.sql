-- +goose Up

-- What a customer has of a purchase is amount + readmitted - released, and each of the
-- three only ever grows. released counts what was given back: the rest of a confirmation
-- in part, and all that is cancelled, expired or returned. readmitted counts what a
-- confirmation that came after the expiry took once more.
--
-- xid is the transaction that stored the row. In the order of (xid, id), read below the
-- oldest transaction under way, nothing appears later before what was read
-- (pg_snapshot_xmin). Rows that are older than the column come first.
ALTER TABLE purchases
    ADD COLUMN expire_time timestamptz, -- of a hold; null when there never was one
    ADD COLUMN released    bigint NOT NULL DEFAULT 0,
    ADD COLUMN readmitted  bigint NOT NULL DEFAULT 0,
    ADD COLUMN xid         xid8   NOT NULL DEFAULT '0',
    ADD CONSTRAINT purchases_readmitted_is_no_more_than_expired CHECK (readmitted BETWEEN 0 AND amount),
    ADD CONSTRAINT purchases_released_fits_state CHECK (CASE state
        WHEN 'held'      THEN released = 0 AND readmitted = 0 AND expire_time IS NOT NULL
        WHEN 'confirmed' THEN released >= 0 AND released < amount + readmitted
        ELSE released = amount + readmitted END);
ALTER TABLE purchases ALTER COLUMN xid SET DEFAULT pg_current_xact_id();
CREATE INDEX purchases_in_order ON purchases (xid, purchase_id);
CREATE INDEX purchases_held ON purchases (product_id, expire_time) WHERE state = 'held';
-- That the amount is above 0 is always true. Only those who mention it use this index: of
-- one product the planner would read all that is due, if it thought that this is little.
CREATE INDEX purchases_due ON purchases (expire_time) WHERE state = 'held' AND amount > 0;

-- What each shard has given back to a product's stock: by purchases and by deliveries.
-- It is no part of the fence's row, so that nobody who gives back waits for a tenure's
-- batch, nor a batch for him. It only ever grows: who reads it late sells less, never more.
CREATE TABLE releases (
    product_id text COLLATE "C" PRIMARY KEY,
    released   bigint NOT NULL,
    CONSTRAINT releases_released_is_never_negative CHECK (released >= 0)
) WITH (fillfactor = 50);

-- What became of each purchase after it was stored, in order; rows are only ever added.
CREATE TABLE changes (
    change_id   uuid PRIMARY KEY,
    purchase_id uuid NOT NULL,
    product_id  text COLLATE "C" NOT NULL,
    request_id  text COLLATE "C", -- null when nobody asked for it
    action      text NOT NULL,
    amount      bigint NOT NULL,  -- units asked for: confirmed, returned; 0 for the others
    state       purchase_state NOT NULL, -- that it led to
    units       bigint NOT NULL,  -- by which it changed what the customer has
    expire_time timestamptz,      -- of the hold, after it
    create_time timestamptz NOT NULL DEFAULT now(),
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT changes_one_outcome_per_request UNIQUE (purchase_id, request_id),
    CONSTRAINT changes_action_is_known CHECK (action IN ('extend', 'confirm', 'cancel', 'expire', 'return'))
);
CREATE INDEX changes_in_order ON changes (xid, change_id);
CREATE INDEX changes_by_product ON changes (product_id);

-- What was added to a product's storage after its creation, or found missing. What is
-- missing is taken from what may be sold as a purchase is: by the tenure, under its fence.
CREATE TABLE deliveries (
    delivery_id uuid PRIMARY KEY,
    product_id  text COLLATE "C" NOT NULL,
    request_id  text COLLATE "C" NOT NULL,
    amount      bigint NOT NULL,
    topology    bigint, -- these three are those of the fence of what takes away
    token       bigint,
    tenure_id   uuid,
    create_time timestamptz NOT NULL DEFAULT now(),
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT deliveries_one_outcome_per_request UNIQUE (product_id, request_id),
    CONSTRAINT deliveries_amount_is_1_to_2_53 CHECK (abs(amount) BETWEEN 1 AND 9007199254740992)
);
CREATE INDEX deliveries_in_order ON deliveries (xid, delivery_id);

-- Nothing is ever edited away.
CREATE TRIGGER changes_are_only_added BEFORE UPDATE OR DELETE ON changes
    FOR EACH ROW EXECUTE FUNCTION refuse_change('changes are only ever added');
CREATE TRIGGER deliveries_are_only_added BEFORE UPDATE OR DELETE ON deliveries
    FOR EACH ROW EXECUTE FUNCTION refuse_change('deliveries are only ever added');
CREATE TRIGGER releases_never_go_down BEFORE UPDATE ON releases
    FOR EACH ROW WHEN (NEW.released < OLD.released OR NEW.product_id <> OLD.product_id)
    EXECUTE FUNCTION refuse_change('what was given back never gets less');
CREATE TRIGGER purchases_only_go_on BEFORE UPDATE ON purchases
    FOR EACH ROW WHEN (NEW.released < OLD.released OR NEW.readmitted < OLD.readmitted)
    EXECUTE FUNCTION refuse_change('what was given back of a purchase never gets less');
-- By itself, as Postgres reads a condition anew for each statement that may meet it.
CREATE TRIGGER purchases_stay_what_they_are
    BEFORE UPDATE OF purchase_id, product_id, request_id, amount, customer_id, create_time, xid ON purchases
    FOR EACH ROW WHEN (
        (NEW.purchase_id, NEW.product_id, NEW.request_id, NEW.amount, NEW.customer_id, NEW.create_time, NEW.xid)
        IS DISTINCT FROM
        (OLD.purchase_id, OLD.product_id, OLD.request_id, OLD.amount, OLD.customer_id, OLD.create_time, OLD.xid))
    EXECUTE FUNCTION refuse_change('of a purchase only its state changes');

-- Whoever changes purchases, and however, moves what they give back. What is readmitted is
-- sold, so it moves the total of the fence, and only under the fence that the row names.
-- +goose StatementBegin
CREATE FUNCTION move_totals_of_changes() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    every_fence_held boolean;
BEGIN
    -- Of no purchase it gets less, so the sums tell whether anything is given back.
    IF (SELECT sum(released) FROM changed) <> (SELECT sum(released) FROM before) THEN
        INSERT INTO releases AS r (product_id, released)
        SELECT product_id, sum(units)::bigint
          FROM (SELECT product_id, released AS units FROM changed
                UNION ALL
                SELECT product_id, -released FROM before) AS moved
         GROUP BY product_id HAVING sum(units) <> 0 ORDER BY product_id
            ON CONFLICT (product_id) DO UPDATE SET released = r.released + EXCLUDED.released;
    END IF;

    IF NOT EXISTS (SELECT FROM changed WHERE readmitted > 0) THEN
        RETURN NULL;
    END IF;
    WITH sold AS (
        SELECT c.product_id, c.topology, c.token, c.tenure_id, sum(c.readmitted - b.readmitted)::bigint AS amount
          FROM changed c JOIN before b ON b.purchase_id = c.purchase_id
         WHERE c.readmitted > b.readmitted
         GROUP BY c.product_id, c.topology, c.token, c.tenure_id ORDER BY c.product_id
    ), moved AS (
        UPDATE fences f SET purchased = f.purchased + sold.amount
          FROM sold
         WHERE f.product_id = ANY (ARRAY[sold.product_id])
           AND (f.topology, f.token, f.tenure_id) = (sold.topology, sold.token, sold.tenure_id)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM moved) = (SELECT count(*) FROM sold) INTO every_fence_held;
    IF NOT every_fence_held THEN
        RAISE EXCEPTION 'purchases of a tenure that does not hold the fence'
              USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER changes_under_fences AFTER UPDATE ON purchases
    REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION move_totals_of_changes();

-- +goose StatementBegin
CREATE FUNCTION move_totals_of_delivery() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF NEW.amount > 0 THEN
        INSERT INTO releases AS r (product_id, released) VALUES (NEW.product_id, NEW.amount)
            ON CONFLICT (product_id) DO UPDATE SET released = r.released + EXCLUDED.released;
        RETURN NULL;
    END IF;
    UPDATE fences f SET purchased = f.purchased - NEW.amount
     WHERE f.product_id = NEW.product_id
       AND (f.topology, f.token, f.tenure_id) = (NEW.topology, NEW.token, NEW.tenure_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'units taken away by a tenure that does not hold the fence'
              USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER deliveries_under_fences AFTER INSERT ON deliveries
    FOR EACH ROW EXECUTE FUNCTION move_totals_of_delivery();

-- As before, and a purchase begins with nothing given back or readmitted: what is stored
-- otherwise would not be counted.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION move_totals_under_fences() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    every_fence_held boolean;
BEGIN
    WITH sold AS (
        SELECT product_id, topology, token, tenure_id, sum(amount)::bigint AS amount,
               bool_and(released = 0 AND readmitted = 0) AS new
          FROM inserted GROUP BY product_id, topology, token, tenure_id ORDER BY product_id
    ), moved AS (
        UPDATE fences f SET purchased = f.purchased + sold.amount
          FROM sold
         WHERE f.product_id = ANY (ARRAY[sold.product_id])
           AND (f.topology, f.token, f.tenure_id) = (sold.topology, sold.token, sold.tenure_id)
           AND sold.new
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM moved) = (SELECT count(*) FROM sold) INTO every_fence_held;
    IF NOT every_fence_held THEN
        RAISE EXCEPTION 'purchases of a tenure that does not hold the fence, or that have a life behind them'
              USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Limits of what one customer may have, and of one purchase; null when there is none.
ALTER TABLE products
    ADD COLUMN max_per_customer bigint,
    ADD COLUMN max_per_purchase bigint,
    ADD CONSTRAINT products_max_per_customer_is_at_least_1 CHECK (max_per_customer >= 1),
    ADD CONSTRAINT products_max_per_purchase_is_at_least_1 CHECK (max_per_purchase >= 1);

DROP TRIGGER products_amount_in_storage_never_changes ON products;
CREATE TRIGGER products_never_change BEFORE UPDATE ON products
    FOR EACH ROW EXECUTE FUNCTION refuse_change('a product never changes');

-- +goose Down
DROP TRIGGER products_never_change ON products;
CREATE TRIGGER products_amount_in_storage_never_changes BEFORE UPDATE ON products
    FOR EACH ROW WHEN (NEW.amount_in_storage <> OLD.amount_in_storage OR NEW.product_id <> OLD.product_id)
    EXECUTE FUNCTION refuse_change('amount_in_storage of a product never changes');
ALTER TABLE products DROP COLUMN max_per_customer, DROP COLUMN max_per_purchase;
DROP TABLE deliveries, changes, releases;
DROP TRIGGER purchases_only_go_on ON purchases;
DROP TRIGGER IF EXISTS purchases_stay_what_they_are ON purchases;
DROP TRIGGER changes_under_fences ON purchases;
DROP FUNCTION move_totals_of_changes, move_totals_of_delivery;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION move_totals_under_fences() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    every_fence_held boolean;
BEGIN
    WITH sold AS (
        SELECT product_id, topology, token, tenure_id, sum(amount)::bigint AS amount
          FROM inserted GROUP BY product_id, topology, token, tenure_id ORDER BY product_id
    ), moved AS (
        UPDATE fences f SET purchased = f.purchased + sold.amount
          FROM sold
         WHERE f.product_id = ANY (ARRAY[sold.product_id])
           AND (f.topology, f.token, f.tenure_id) = (sold.topology, sold.token, sold.tenure_id)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM moved) = (SELECT count(*) FROM sold) INTO every_fence_held;
    IF NOT every_fence_held THEN
        RAISE EXCEPTION 'purchases of a tenure that does not hold the fence'
              USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
ALTER TABLE purchases
    DROP COLUMN expire_time, DROP COLUMN released, DROP COLUMN readmitted, DROP COLUMN xid;
