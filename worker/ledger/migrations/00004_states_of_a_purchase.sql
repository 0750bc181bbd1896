-- +goose Up

-- The other states of a purchase's life. Postgres lets nobody use a new value in the
-- transaction that adds it, so what needs them is in the next migration.
ALTER TYPE purchase_state ADD VALUE 'held';
ALTER TYPE purchase_state ADD VALUE 'cancelled';
ALTER TYPE purchase_state ADD VALUE 'expired';
ALTER TYPE purchase_state ADD VALUE 'returned';

-- +goose Down
-- A value cannot be taken out of an enum, and does no harm there.
SELECT 1;
