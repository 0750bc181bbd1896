-- +goose Up

-- The tenure that sold a purchase; null in rows that are older than this column.
ALTER TABLE purchases ADD COLUMN tenure_id uuid;

-- Whoever stores purchases, and however, moves the running totals of their products, and
-- can do so only under fences that are still those of the purchases' tenures.
--
-- The update locks each fence until the commit, and re-reads it when it waited: it finds
-- none that was raised, and then nothing of the whole statement happens.
--
-- The fences are locked in product order, so that two batches never wait for each other in
-- a circle, because one plan only is possible: for each product in turn, its fence by the
-- index. ANY (ARRAY[…]) is an equality that a merge join cannot use, nor a scan of the whole
-- index, which would be cheapest for a table that has one row when the plan is made.
-- +goose StatementBegin
CREATE FUNCTION move_totals_under_fences() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
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

CREATE TRIGGER purchases_under_fences AFTER INSERT ON purchases
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION move_totals_under_fences();

-- +goose Down
DROP TRIGGER purchases_under_fences ON purchases;
DROP FUNCTION move_totals_under_fences;
ALTER TABLE purchases DROP COLUMN tenure_id;
