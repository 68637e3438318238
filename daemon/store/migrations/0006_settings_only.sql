-- The default model is a setting, and how long a model stays is said with its load: neither was ever read from here.
DROP TABLE server_config;
ALTER TABLE models DROP COLUMN keep_alive_ms;
