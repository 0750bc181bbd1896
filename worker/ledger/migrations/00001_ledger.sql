-- +goose Up

-- Who this database is. A DSN that points at the wrong database is found out
-- here, before anything is sold.
CREATE TABLE shard (
    singleton  boolean PRIMARY KEY DEFAULT true,
    cluster_id uuid NOT NULL,
    name       text NOT NULL,
    CONSTRAINT shard_is_one_row CHECK (singleton)
);

-- Every topology this shard has been part of. etcd holds the newest one; a
-- number here above etcd's means that etcd lost its data.
CREATE TABLE topologies (
    number      bigint PRIMARY KEY,
    document    jsonb NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT topologies_are_numbered_from_1 CHECK (number >= 1)
);

-- Every shard holds every product. Ids compare by byte (COLLATE "C"), so that
-- all shards agree on the order in which fences are locked and pages are read.
CREATE TABLE products (
    product_id        text COLLATE "C" PRIMARY KEY,
    amount_in_storage bigint NOT NULL,
    create_time       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT products_id_is_1_to_128_bytes CHECK (octet_length(product_id) BETWEEN 1 AND 128),
    CONSTRAINT products_amount_in_storage_is_1_to_2_53 CHECK (amount_in_storage BETWEEN 1 AND 9007199254740992)
);

-- The fence of one product: the newest tenure this shard has seen, and the
-- running total of what this shard has sold. It stands before the product row
-- does, because creating a product is itself fenced.
CREATE TABLE fences (
    product_id text COLLATE "C" PRIMARY KEY,
    topology   bigint NOT NULL,
    token      bigint NOT NULL,
    tenure_id  uuid NOT NULL,
    purchased  bigint NOT NULL DEFAULT 0,
    CONSTRAINT fences_purchased_is_never_negative CHECK (purchased >= 0)
) WITH (fillfactor = 50); -- room for in-page updates of purchased

CREATE TYPE purchase_state AS ENUM ('confirmed');

-- topology and token are those of the fence at commit. There is no foreign key
-- to products: rows are inserted only by a join with a fence that a tenure
-- raised after it had seen the product, and the check would cost a row lock for
-- each purchase.
CREATE TABLE purchases (
    purchase_id    uuid PRIMARY KEY,
    product_id     text COLLATE "C" NOT NULL,
    request_id     text COLLATE "C" NOT NULL,
    amount         bigint NOT NULL,
    customer_id    text COLLATE "C" NOT NULL,
    payment_method text NOT NULL DEFAULT '',
    state          purchase_state NOT NULL,
    topology       bigint NOT NULL,
    token          bigint NOT NULL,
    create_time    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT purchases_one_outcome_per_request UNIQUE (product_id, request_id),
    CONSTRAINT purchases_amount_is_1_to_2_53 CHECK (amount BETWEEN 1 AND 9007199254740992)
);
CREATE INDEX purchases_by_customer ON purchases (customer_id, purchase_id);

-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME;
END $$;
-- +goose StatementEnd

CREATE TRIGGER products_amount_in_storage_never_changes BEFORE UPDATE ON products
    FOR EACH ROW WHEN (NEW.amount_in_storage <> OLD.amount_in_storage OR NEW.product_id <> OLD.product_id)
    EXECUTE FUNCTION refuse_change('amount_in_storage of a product never changes');

CREATE TRIGGER fences_never_go_down BEFORE UPDATE ON fences
    FOR EACH ROW WHEN ((NEW.topology, NEW.token) < (OLD.topology, OLD.token))
    EXECUTE FUNCTION refuse_change('the topology and token of a fence never go down');

-- +goose Down
DROP TABLE purchases, fences, products, topologies, shard;
DROP TYPE purchase_state;
DROP FUNCTION refuse_change;
