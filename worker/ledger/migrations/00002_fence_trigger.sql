-- +goose Up

-- Only a statement that raises a fence can lower it; one that moves the running total,
-- as each batch does for each of its products, need not be looked at.
DROP TRIGGER fences_never_go_down ON fences;
CREATE TRIGGER fences_never_go_down BEFORE UPDATE OF topology, token ON fences
    FOR EACH ROW WHEN ((NEW.topology, NEW.token) < (OLD.topology, OLD.token))
    EXECUTE FUNCTION refuse_change('the topology and token of a fence never go down');

-- +goose Down
DROP TRIGGER fences_never_go_down ON fences;
CREATE TRIGGER fences_never_go_down BEFORE UPDATE ON fences
    FOR EACH ROW WHEN ((NEW.topology, NEW.token) < (OLD.topology, OLD.token))
    EXECUTE FUNCTION refuse_change('the topology and token of a fence never go down');
