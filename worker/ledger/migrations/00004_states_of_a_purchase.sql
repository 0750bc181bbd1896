-- +goose Up

-- The other states of a purchase's life. Postgres lets nobody use a new value in the
-- transaction that adds it, so what needs them is in the next migration.
ALTER TYPE purchase_state ADD VALUE IF NOT EXISTS 'held';
ALTER TYPE purchase_state ADD VALUE IF NOT EXISTS 'cancelled';
ALTER TYPE purchase_state ADD VALUE IF NOT EXISTS 'expired';
ALTER TYPE purchase_state ADD VALUE IF NOT EXISTS 'returned';

-- +goose Down
-- A value cannot be taken out of an enum, and does no harm there, so Up may find it.
SELECT 1;
