-- What SQL alone takes: a temporary table, a raw copy of every row, a typed upsert of every row; one transaction.
\set ON_ERROR_STOP on
BEGIN;
CREATE TEMPORARY TABLE given (id text, name text, value text, description text, updated_at text) ON COMMIT DROP;
\copy given FROM pstdin WITH (FORMAT csv, HEADER)
INSERT INTO floor_raw (source, source_id, payload)
SELECT 'csv', id, to_jsonb(given) FROM given;
INSERT INTO floor_rows AS held (source, source_id, name, value, description, updated_at)
SELECT 'csv', id, name, CASE WHEN value ~ '^-?[0-9]+(\.[0-9]+)?$' THEN value::float8 END, description, updated_at::timestamptz
FROM given
ON CONFLICT (source, source_id) DO UPDATE SET
    name = excluded.name, value = excluded.value, description = excluded.description, updated_at = excluded.updated_at,
    loaded_at = now();
COMMIT;
