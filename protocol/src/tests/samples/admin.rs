//! Values of the types for settings, for what was counted, and for what happens.

use super::access::request_entry;
use super::{card, error, measures};
use crate::measures::{Histogram, Metrics, ModelMeasures, RequestDurations, RequestTally};
use crate::news::{Downloaded, Happening, News};
use crate::setting::{Applies, ChangeSettingsRequest, Setting, SettingChange};
use crate::transcript::{Progress, Stage, Unit};

pub(in crate::tests) fn setting() -> Setting {
    Setting {
        name: "memory.budget".into(),
        value: "8GB".into(),
        configured: "75%".into(),
        changed: true,
        applies: Applies::NextLoad,
        fixed_by: Some("IMPETUS_MEMORY_BUDGET".into()),
        about: "What all loaded models may take together.".into(),
    }
}

pub(in crate::tests) fn change_settings() -> ChangeSettingsRequest {
    let change = |name: &str, value: Option<&str>| SettingChange { name: name.into(), value: value.map(str::to_owned) };
    ChangeSettingsRequest { changes: vec![change("memory.budget", Some("50%")), change("log.level", None)] }
}

pub(in crate::tests) fn metrics() -> Metrics {
    let mut durations = Histogram::default();
    durations.record(1_500);
    let (verb, model) = ("generate".to_owned(), "impetus-nano".to_owned());
    Metrics {
        models: vec![ModelMeasures { model: model.clone(), measures: measures(), loads: 2, deaths: 1 }],
        requests: vec![RequestTally {
            verb: verb.clone(),
            model: model.clone(),
            key: "key_1".into(),
            status: "ok".into(),
            requests: 1,
            prompt_tokens: 12,
            completion_tokens: 3,
        }],
        durations: vec![RequestDurations { verb, model, durations }],
    }
}

pub(in crate::tests) fn news() -> News {
    let progress = |stage| Progress { stage, subject: "ORG/NAME".into(), done: 1, total: Some(9), unit: Unit::Bytes };
    let ended = |error| Happening::Downloaded(Downloaded { repo: "ORG/NAME".into(), error });
    let happenings = vec![
        Happening::Model(card()),
        Happening::Forgotten("impetus-nano".into()),
        Happening::Loading(progress(Stage::Loading)),
        Happening::Downloading(progress(Stage::Downloading)),
        ended(None),
        ended(Some(error())),
        Happening::Request(request_entry()),
    ];
    News { happenings, next: 12, missed: true }
}
