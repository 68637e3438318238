//! The models Impetus knows.
//!
//! What a model's folder holds travels as JSON text that only impetusd understands; the rest is columns. A model's
//! files are none of this module's business.

#[cfg(test)]
mod tests;

use rusqlite::{Row, named_params};

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

    /// Adds a model or replaces the one of its name; keeps when that one was added, and its pin.
    pub fn put(self, model: Model) -> Result<()> {
        self.0.write(move |connection| {
            let put = "INSERT INTO models (name, source, repo, revision, path, facts, pinned, created_unix_s)
                VALUES (:name, :source, :repo, :revision, :path, :facts, :pinned, :created_unix_s)
                ON CONFLICT (name) DO UPDATE SET
                    source = excluded.source, repo = excluded.repo, revision = excluded.revision,
                    path = excluded.path, facts = excluded.facts";
            let (source, repo, revision) = match &model.source {
                Source::Bundled => ("bundled", None, None),
                Source::Local => ("local", None, None),
                Source::Hub { repo, revision } => ("hub", Some(repo), Some(revision)),
            };
            let values = named_params! {
                ":name": model.name, ":source": source, ":repo": repo, ":revision": revision, ":path": model.path,
                ":facts": model.facts.to_string(), ":pinned": model.pinned, ":created_unix_s": model.created_unix_s,
            };
            connection.execute(put, values).map(drop)
        })
    }

    /// Sets whether a model is never evicted; returns false if there is none of this name.
    pub fn set_pinned(self, name: &str, pinned: bool) -> Result<bool> {
        let name = name.to_owned();
        self.0.write(move |connection| {
            Ok(connection.execute("UPDATE models SET pinned = ?2 WHERE name = ?1", (name, pinned))? > 0)
        })
    }

    /// Forgets a model; returns false if there is none of this name.
    pub fn remove(self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.0.write(move |connection| Ok(connection.execute("DELETE FROM models WHERE name = ?1", [name])? > 0))
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Model> {
    let source: String = row.get("source")?;
    let facts: String = row.get("facts")?;
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
        created_unix_s: row.get("created_unix_s")?,
    })
}
