//! `impetusctl config`: the settings of the running daemon. What is changed here is kept by the daemon; `config.toml` stays
//! as its owner wrote it.

use protocol::setting::{Applies, ChangeSettingsRequest, Setting, SettingChange};
use protocol::{Error, ErrorKind, Result};

use crate::cli::{Config, ConfigCommand};
use crate::daemon::Daemon;
use crate::output::{Output, table};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, config: Config) -> Result<()> {
    let client = daemon.start().await?;
    let (name, value) = match config.command.unwrap_or(ConfigCommand::List) {
        ConfigCommand::List => {
            let settings = client.settings().await?;
            return output.result(&settings, list(&settings));
        }
        ConfigCommand::Get { name } => {
            let setting = find(client.settings().await?, &name)?;
            return output.result(&setting, &setting.value);
        }
        ConfigCommand::Set { name, value } => (name, Some(value)),
        ConfigCommand::Reset { name } => (name, None),
    };
    let changes = vec![SettingChange { name: name.clone(), value }];
    let setting = find(client.change_settings(ChangeSettingsRequest { changes }).await?, &name)?;
    output.result(&setting, format_args!("{} is {}, {}", setting.name, setting.value, effect(setting.applies)))
}

fn find(settings: Vec<Setting>, name: &str) -> Result<Setting> {
    settings.into_iter().find(|setting| setting.name == name).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("There is no setting {name:?} that can be changed."))
            .hint("`impetusctl config list` names them; the others are in config.toml.")
    })
}

fn effect(applies: Applies) -> &'static str {
    match applies {
        Applies::AtOnce => "from now on",
        Applies::NextLoad => "from the next load of a model on",
    }
}

fn list(settings: &[Setting]) -> String {
    let row = |setting: &Setting| {
        let source = match (&setting.fixed_by, setting.changed) {
            (Some(by), _) => format!("fixed by {by}"),
            (None, true) => format!("changed, was {}", setting.configured),
            (None, false) => String::new(),
        };
        [setting.name.clone(), setting.value.clone(), source, setting.about.clone()]
    };
    let rows: Vec<_> = settings.iter().map(row).collect();
    table(["NAME", "VALUE", "", "WHAT IT IS"], &rows)
}
