//! What an administrator changed while the daemon ran, and keeps after a restart. What names and values mean is impetusd's
//! business.

use crate::audit::{Change, insert};
use crate::{Result, Store};

/// The table of settings.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a>(pub(crate) &'a Store);

impl Settings<'_> {
    /// Returns every setting that was changed, by name.
    pub fn list(self) -> Result<Vec<(String, String)>> {
        self.0.call(|connection| {
            let mut statement = connection.prepare("SELECT name, value FROM settings ORDER BY name")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Writes settings, or forgets those that are `None`, and writes down who did it: all of it or nothing.
    pub fn change(self, changes: Vec<(String, Option<String>)>, audit: Vec<Change>) -> Result<()> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            for (name, value) in changes {
                match value {
                    Some(value) => transaction.execute(
                        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
                        (name, value),
                    )?,
                    None => transaction.execute("DELETE FROM settings WHERE name = ?1", [name])?,
                };
            }
            audit.into_iter().try_for_each(|change| insert(&transaction, change))?;
            transaction.commit()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    #[test]
    fn settings_are_changed_and_forgotten_and_it_is_written_down_who_did_it() {
        let (_directory, store) = store();
        let set = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let by = |action: &str| Change {
            time_unix_ms: 1,
            actor: "key_1".into(),
            action: action.into(),
            subject: "memory.budget".into(),
        };
        let first = vec![set("memory.budget", Some("50%")), set("log.level", Some("debug"))];
        store.settings().change(first, vec![by("setting.change")]).unwrap();
        store.settings().change(vec![set("memory.budget", Some("8GB")), set("log.level", None)], vec![]).unwrap();
        assert_eq!(store.settings().list().unwrap(), [("memory.budget".to_owned(), "8GB".to_owned())]);
        assert_eq!(store.audit().page(9, None).unwrap()[0].1, by("setting.change"));
    }
}
