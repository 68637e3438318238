//! How the sources of the configuration are laid over one another, and how a mistake is blamed on its source.
//! Called by `config`, source by source, least binding first.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Config, ConfigError, ENVIRONMENTS, ranges};
use crate::nearest::nearest;

/// Returns the profile that `IMPETUS_ENV` names.
pub fn environment(variables: &[(String, String)]) -> Result<String, ConfigError> {
    let Some((_, value)) = variables.iter().rev().find(|(name, _)| name == "IMPETUS_ENV") else {
        return Ok("production".to_owned());
    };
    if ENVIRONMENTS.contains(&value.as_str()) {
        return Ok(value.clone());
    }
    let cause = format!("{value:?} is no environment; choose one of {}", ENVIRONMENTS.join(", "));
    Err(ConfigError::Value { origin: "IMPETUS_ENV".to_owned(), cause })
}

/// The sources merged so far, beside the keys that exist.
#[derive(Clone, Default)]
pub struct Layers {
    /// The defaults: no other key exists.
    pub known: Table,
    /// What came of it so far.
    pub merged: Table,
    /// The variable or flag that set a key, by `section.key`.
    pub fixed: BTreeMap<String, String>,
}

impl std::fmt::Debug for Layers {
    /// Some of the values are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layers").finish_non_exhaustive()
    }
}

impl Layers {
    /// Lays a file over it, and then that file's profile for `environment`.
    pub fn add_file(&mut self, text: &str, name: &str, environment: &str) -> Result<(), ConfigError> {
        let cause = |error: toml::de::Error| ConfigError::Value { origin: name.to_owned(), cause: error.to_string() };
        let mut table: Table = text.parse().map_err(cause)?;
        let profiles = table.remove("profile");
        self.add(name, table)?;
        let Some(Value::Table(profiles)) = profiles else { return Ok(()) };
        for (profile, table) in profiles {
            let origin = format!("{name}, profile {profile}");
            let Value::Table(table) = table else { return Err(unknown(&origin, &profile, ENVIRONMENTS.into_iter())) };
            if !ENVIRONMENTS.contains(&profile.as_str()) {
                return Err(unknown(&origin, &profile, ENVIRONMENTS.into_iter()));
            }
            self.refuse_unknown(&origin, &table)?;
            if profile == environment {
                self.add(&origin, table)?;
            }
        }
        Ok(())
    }

    /// `IMPETUS_LOG_LEVEL` sets `log.level`. Variables of other programs of the house name none of our sections.
    /// The hub's own variables mean here what they mean to its other tools.
    pub fn add_variable(&mut self, variable: &str, value: &str) -> Result<(), ConfigError> {
        match variable {
            "IMPETUS_WORKER" => return self.set(variable, "worker", "program", value),
            "HF_ENDPOINT" if !value.is_empty() => return self.set(variable, "hub", "endpoint", value),
            "HF_HOME" if !value.is_empty() => return self.set(variable, "hub", "cache", &format!("{value}/hub")),
            "HF_HUB_CACHE" if !value.is_empty() => return self.set(variable, "hub", "cache", value),
            "HF_TOKEN" => return self.set(variable, "hub", "token", value.trim()),
            "HF_HUB_OFFLINE" => {
                let offline = matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
                return self.set(variable, "hub", "offline", if offline { "true" } else { "false" });
            }
            // As every program that exports traces reads them; the one for traces alone comes later, and wins.
            "OTEL_EXPORTER_OTLP_ENDPOINT" if !value.is_empty() => {
                let endpoint = format!("{}/v1/traces", value.trim_end_matches('/'));
                return self.set(variable, "traces", "endpoint", &endpoint);
            }
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" if !value.is_empty() => {
                return self.set(variable, "traces", "endpoint", value);
            }
            "OTEL_EXPORTER_OTLP_HEADERS" | "OTEL_EXPORTER_OTLP_TRACES_HEADERS" if !value.is_empty() => {
                return self.set(variable, "traces", "headers", value);
            }
            _ => {}
        }
        let Some(rest) = variable.strip_prefix("IMPETUS_") else { return Ok(()) };
        let rest = rest.to_ascii_lowercase();
        let Some((section, key)) = rest.split_once('_').filter(|(section, _)| self.known.contains_key(*section)) else {
            return Ok(());
        };
        self.set(variable, section, key, value)
    }

    /// Lays a `section.key=value` flag over it.
    pub fn add_setting(&mut self, setting: &str) -> Result<(), ConfigError> {
        let origin = format!("--set {setting}");
        let parts = setting.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
        let Some(((section, key), value)) = parts else {
            return Err(ConfigError::Value { origin, cause: "write it as section.key=value".to_owned() });
        };
        self.set(&origin, section, key, value)
    }

    /// Sets one key from the text of a variable or flag, which nothing else can change then.
    fn set(&mut self, origin: &str, section: &str, key: &str, text: &str) -> Result<(), ConfigError> {
        self.lay(origin, section, key, text)?;
        self.fixed.insert(format!("{section}.{key}"), origin.to_owned());
        Ok(())
    }

    /// Lays one key over it from text, read as what the default is.
    pub fn lay(&mut self, origin: &str, section: &str, key: &str, text: &str) -> Result<(), ConfigError> {
        let known = match self.known.get(section) {
            Some(Value::Table(known)) => known,
            _ => return Err(unknown(origin, section, self.known.keys().map(String::as_str))),
        };
        let wrong = |expected: &str| ConfigError::Value {
            origin: origin.to_owned(),
            cause: format!("{text:?} does not fit {section}.{key}; it must be {expected}"),
        };
        let value = match known.get(key) {
            None => return Err(unknown(origin, key, known.keys().map(String::as_str))),
            Some(Value::Boolean(_)) => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
            Some(Value::Integer(_)) => Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?),
            Some(Value::Array(_)) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                Value::Array(words.map(|word| Value::String(word.to_owned())).collect())
            }
            Some(Value::Table(_)) => {
                let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
                let pair = |pair: &str| {
                    pair.split_once('=').map(|(name, value)| (trimmed(name), Value::String(trimmed(value))))
                };
                Value::Table(pairs.map(pair).collect::<Option<_>>().ok_or_else(|| wrong("NAME=VALUE, NAME=VALUE, …"))?)
            }
            Some(_) => Value::String(text.to_owned()),
        };
        let table = Table::from_iter([(key.to_owned(), value)]);
        self.add(origin, Table::from_iter([(section.to_owned(), Value::Table(table))]))
    }

    /// Lays `table` over what is there, and reads the result, so that a wrong value is blamed on its origin.
    pub fn add(&mut self, origin: &str, table: Table) -> Result<(), ConfigError> {
        self.refuse_unknown(origin, &table)?;
        for (section, values) in table {
            if let (Some(Value::Table(merged)), Value::Table(values)) = (self.merged.get_mut(&section), values) {
                merged.extend(values);
            }
        }
        self.read(origin).map(drop)
    }

    /// Returns what a key is now, as text.
    pub fn text(&self, section: &str, key: &str) -> Option<String> {
        let plain = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Boolean(switch) => Some(switch.to_string()),
            _ => None,
        };
        match self.merged.get(section)?.get(key)? {
            Value::Array(values) => Some(values.iter().filter_map(plain).collect::<Vec<_>>().join(",")),
            Value::Table(pairs) => {
                let pairs = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", plain(value)?)));
                Some(pairs.collect::<Vec<_>>().join(","))
            }
            value => plain(value),
        }
    }

    fn refuse_unknown(&self, origin: &str, table: &Table) -> Result<(), ConfigError> {
        for (section, values) in table {
            let Some(Value::Table(known)) = self.known.get(section) else {
                return Err(unknown(origin, section, self.known.keys().map(String::as_str)));
            };
            let Value::Table(values) = values else {
                let cause = format!("{section} is a section; write [{section}] and its keys below");
                return Err(ConfigError::Value { origin: origin.to_owned(), cause });
            };
            if let Some(key) = values.keys().find(|key| !known.contains_key(*key)) {
                let names = known.keys().map(String::as_str);
                return Err(unknown(&format!("{origin}, section {section}"), key, names));
            }
        }
        Ok(())
    }

    /// Reads what came of it.
    pub fn read(&self, origin: &str) -> Result<Config, ConfigError> {
        let wrong = |cause| ConfigError::Value { origin: origin.to_owned(), cause };
        let read = self.merged.clone().try_into();
        let config = read.map_err(|error: toml::de::Error| wrong(error.to_string().trim().replace('\n', " ")))?;
        ranges::check(&config).map(|()| config).map_err(wrong)
    }
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

fn unknown<'a>(origin: &str, key: &str, names: impl Iterator<Item = &'a str>) -> ConfigError {
    let suggestion = nearest(key, names).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
    ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), suggestion }
}
