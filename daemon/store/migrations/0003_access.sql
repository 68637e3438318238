-- Keys get limits, models and a second secret while they are rotated; what they use is counted by day.

ALTER TABLE api_keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(models));
ALTER TABLE api_keys ADD COLUMN inference_per_minute INTEGER CHECK (inference_per_minute > 0);
ALTER TABLE api_keys ADD COLUMN reads_per_minute INTEGER CHECK (reads_per_minute > 0);
ALTER TABLE api_keys ADD COLUMN requests_per_day INTEGER CHECK (requests_per_day > 0);
ALTER TABLE api_keys ADD COLUMN tokens_per_day INTEGER CHECK (tokens_per_day > 0);
-- The secret before the last rotation, and until when it still opens the door.
ALTER TABLE api_keys ADD COLUMN old_hash BLOB CHECK (old_hash IS NULL OR length(old_hash) = 32);
ALTER TABLE api_keys ADD COLUMN old_until_unix_s INTEGER;

CREATE UNIQUE INDEX idx_key_old_hash ON api_keys (old_hash);

-- The log of requests is bounded, so it cannot be summed for a limit.
CREATE TABLE key_usage (
    key_id   TEXT    NOT NULL REFERENCES api_keys (id),
    day      INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,
    PRIMARY KEY (key_id, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX idx_usage_day ON key_usage (day);
