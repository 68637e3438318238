//! The models Impetus knows, and the one it takes when nobody names one.
//!
//! What a model's folder holds travels as JSON text that only impetusd understands; the rest is columns. A model's
//! files are none of this module's business.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use crate::{Result, Store};

/// A registered model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name requests use.
    pub name: String,
    /// Where it came from.
    pub source: Source,
    /// The folder of its files.
    pub path: String,
    /// What the folder holds, as JSON.
    pub facts: serde_json::Value,
    /// Whether it is never evicted.
    pub pinned: bool,
    /// Milliseconds of idleness before it is unloaded; `None` takes the daemon's default.
    pub keep_alive_ms: Option<u64>,
    /// When it was added, in seconds since 1970.
    pub created_unix_s: i64,
}

/// Where a model came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Shipped with Impetus.
    Bundled,
    /// A folder on this machine.
    Local,
    /// A repository of the Hugging Face hub, at a commit.
    Hub {
        /// `ORG/NAME`.
        repo: String,
        /// The commit.
        revision: String,
    },
}

/// The table of models.
#[derive(Clone, Copy, Debug)]
pub struct Models<'a>(pub(crate) &'a Store);

impl Models<'_> {
    /// Returns all models, by name.
    pub fn list(self) -> Result<Vec<Model>> {
        self.0.call(|connection| {
            let mut statement = connection.prepare("SELECT * FROM models ORDER BY name")?;
            statement.query_map([], read)?.collect()
        })
    }

    /// Returns the model of this name.
    pub fn get(self, name: &str) -> Result<Option<Model>> {
        let name = name.to_owned();
        self.0.call(move |connection| {
            let mut statement = connection.prepare("SELECT * FROM models WHERE name = ?1")?;
            statement.query_row([name], read).optional()
        })
    }

    /// Adds a model; returns false, and changes nothing, if its name is taken.
    pub fn insert(self, model: Model) -> Result<bool> {
        self.0.write(move |connection| Ok(write(connection, &model, "ON CONFLICT (name) DO NOTHING")? > 0))
    }

    /// Adds a model or replaces the one of its name; keeps when that one was added, its pin and its keep-alive.
    pub fn put(self, model: Model) -> Result<()> {
        let replace = "ON CONFLICT (name) DO UPDATE SET
            source = excluded.source, repo = excluded.repo, revision = excluded.revision,
            path = excluded.path, facts = excluded.facts";
        self.0.write(move |connection| write(connection, &model, replace).map(drop))
    }

    /// Sets whether a model is never evicted; returns false if there is none of this name.
    pub fn set_pinned(self, name: &str, pinned: bool) -> Result<bool> {
        self.set(name, "UPDATE models SET pinned = ?2 WHERE name = ?1", pinned)
    }

    /// Sets a model's keep-alive; returns false if there is none of this name.
    pub fn set_keep_alive(self, name: &str, keep_alive_ms: Option<u64>) -> Result<bool> {
        self.set(name, "UPDATE models SET keep_alive_ms = ?2 WHERE name = ?1", keep_alive_ms.map(whole))
    }

    /// Forgets a model; returns false if there is none of this name.
    pub fn remove(self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.0.write(move |connection| Ok(connection.execute("DELETE FROM models WHERE name = ?1", [name])? > 0))
    }

    /// Returns the default model's name.
    pub fn default(self) -> Result<Option<String>> {
        self.0.call(|connection| connection.query_row("SELECT default_model FROM server_config", [], |row| row.get(0)))
    }

    /// Sets the default model; returns false, and changes nothing, if there is none of this name.
    pub fn set_default(self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.0.write(move |connection| {
            let set = "UPDATE server_config SET default_model = ?1 WHERE ?1 IN (SELECT name FROM models)";
            Ok(connection.execute(set, [name])? > 0)
        })
    }

    fn set(self, name: &str, update: &'static str, value: impl rusqlite::ToSql + Send + 'static) -> Result<bool> {
        let name = name.to_owned();
        self.0.write(move |connection| Ok(connection.execute(update, (name, value))? > 0))
    }
}

/// Inserts a model; `conflict` says what happens if its name is taken.
fn write(connection: &Connection, model: &Model, conflict: &str) -> rusqlite::Result<usize> {
    let insert = format!(
        "INSERT INTO models (name, source, repo, revision, path, facts, pinned, keep_alive_ms, created_unix_s)
         VALUES (:name, :source, :repo, :revision, :path, :facts, :pinned, :keep_alive_ms, :created_unix_s) {conflict}"
    );
    let (source, repo, revision) = match &model.source {
        Source::Bundled => ("bundled", None, None),
        Source::Local => ("local", None, None),
        Source::Hub { repo, revision } => ("hub", Some(repo), Some(revision)),
    };
    connection.execute(
        &insert,
        named_params! {
            ":name": model.name,
            ":source": source,
            ":repo": repo,
            ":revision": revision,
            ":path": model.path,
            ":facts": model.facts.to_string(),
            ":pinned": model.pinned,
            ":keep_alive_ms": model.keep_alive_ms.map(whole),
            ":created_unix_s": model.created_unix_s,
        },
    )
}

fn read(row: &Row<'_>) -> rusqlite::Result<Model> {
    let source: String = row.get("source")?;
    let facts: String = row.get("facts")?;
    let keep_alive_ms: Option<i64> = row.get("keep_alive_ms")?;
    Ok(Model {
        name: row.get("name")?,
        source: match source.as_str() {
            "bundled" => Source::Bundled,
            "local" => Source::Local,
            _ => Source::Hub { repo: row.get("repo")?, revision: row.get("revision")? },
        },
        path: row.get("path")?,
        // The schema lets nothing in that is not JSON.
        facts: serde_json::from_str(&facts).unwrap_or_default(),
        pinned: row.get("pinned")?,
        keep_alive_ms: keep_alive_ms.and_then(|ms| u64::try_from(ms).ok()),
        created_unix_s: row.get("created_unix_s")?,
    })
}

/// Returns a count as SQLite's integer; what does not fit is longer than any machine lives.
fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
