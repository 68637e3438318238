-- What clients asked to be kept for them, until it expires. The body is theirs; this schema knows what bounds it.
CREATE TABLE records (
    collection      TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    owner           TEXT REFERENCES api_keys (id),
    label           TEXT    NOT NULL,
    version         INTEGER NOT NULL CHECK (version > 0),
    created_unix_ms INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER,
    bytes           INTEGER NOT NULL,
    body            TEXT    NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (collection, id)
) STRICT;

-- What is listed and counted is read from here alone, so that bodies are not.
CREATE INDEX idx_record_age ON records (collection, updated_unix_ms DESC, id DESC, bytes);
CREATE INDEX idx_record_expiry ON records (expires_unix_ms) WHERE expires_unix_ms IS NOT NULL;
