-- The same, but rows whose hash is the one that is stored are left alone.
\set ON_ERROR_STOP on
BEGIN;
CREATE TEMPORARY TABLE given (id text, name text, value text, description text, updated_at text) ON COMMIT DROP;
\copy given FROM pstdin WITH (FORMAT csv, HEADER)
CREATE TEMPORARY TABLE changed ON COMMIT DROP AS
SELECT given.*, fresh.hash FROM given
CROSS JOIN LATERAL (SELECT sha256(convert_to(to_jsonb(given)::text, 'UTF8'))) AS fresh (hash)
LEFT JOIN floor_rows AS held ON held.source = 'csv' AND held.source_id = given.id
WHERE held.content_hash IS DISTINCT FROM fresh.hash;
INSERT INTO floor_raw (source, source_id, payload, content_hash)
SELECT 'csv', id, to_jsonb(changed) - 'hash', hash FROM changed;
INSERT INTO floor_rows AS held (source, source_id, name, value, description, updated_at, content_hash)
SELECT 'csv', id, name, CASE WHEN value ~ '^-?[0-9]+(\.[0-9]+)?$' THEN value::float8 END, description, updated_at::timestamptz, hash
FROM changed
ON CONFLICT (source, source_id) DO UPDATE SET
    name = excluded.name, value = excluded.value, description = excluded.description, updated_at = excluded.updated_at,
    content_hash = excluded.content_hash, loaded_at = now();
COMMIT;
