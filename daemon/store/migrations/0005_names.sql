-- Every key has names of its own: what one calls its documents is no matter of the others.
CREATE TABLE named (
    collection      TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    owner           TEXT REFERENCES api_keys (id),
    label           TEXT    NOT NULL,
    version         INTEGER NOT NULL CHECK (version > 0),
    created_unix_ms INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER,
    bytes           INTEGER NOT NULL,
    body            TEXT    NOT NULL CHECK (json_valid(body))
) STRICT;

INSERT INTO named
    SELECT collection, id, owner, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes, body
    FROM records;
DROP TABLE records;
ALTER TABLE named RENAME TO records;

-- Nobody's key is '': it stands for the user of the socket.
CREATE UNIQUE INDEX idx_record_name ON records (collection, id, coalesce(owner, ''));
CREATE INDEX idx_record_age ON records (collection, updated_unix_ms DESC, id DESC, bytes);
CREATE INDEX idx_record_expiry ON records (expires_unix_ms) WHERE expires_unix_ms IS NOT NULL;
