CREATE TABLE floor_raw (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text NOT NULL, source_id text NOT NULL, payload jsonb NOT NULL,
    content_hash bytea, loaded_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE floor_rows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text NOT NULL, source_id text NOT NULL, name text,
    value float8, description text, updated_at timestamptz, content_hash bytea,
    loaded_at timestamptz NOT NULL DEFAULT now(), UNIQUE (source, source_id)
);
