//! One file a verb, named as the protocol and the daemon name it.

mod answer;
mod audit;
mod backup;
mod bench;
mod chat;
mod completions;
mod config;
mod doctor;
mod embed;
mod key;
mod load;
mod logs;
mod man;
mod models;
mod ps;
mod pull;
mod ready;
mod requests;
mod rm;
mod run;
mod serve;
mod status;
mod stop;
mod unload;
mod version;
mod work;

use protocol::Result;

use crate::cli::{Cli, Command};
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command that was typed.
pub async fn run(cli: Cli, output: Output) -> Result<()> {
    let daemon = Daemon::new(cli.socket)?;
    match cli.command {
        Command::Serve(serve) => serve::run(&daemon, output, &serve).await,
        Command::Stop(stop) => stop::run(&daemon, output, &stop).await,
        Command::Run(run) => run::run(&daemon, output, run).await,
        Command::Chat(chat) => chat::run(&daemon, output, chat).await,
        Command::Embed(embed) => embed::run(&daemon, output, embed).await,
        Command::Models(models) => models::run(&daemon, output, models).await,
        Command::Ps => ps::run(&daemon, output).await,
        Command::Pull(pull) => pull::run(&daemon, output, pull).await,
        Command::Rm(rm) => rm::run(&daemon, output, rm).await,
        Command::Load(load) => load::run(&daemon, output, load).await,
        Command::Unload(unload) => unload::run(&daemon, output, unload).await,
        Command::Status => status::run(&daemon, output).await,
        Command::Logs(logs) => logs::run(&daemon, output, &logs).await,
        Command::Key(key) => key::run(&daemon, output, key).await,
        Command::Config(config) => config::run(&daemon, output, config).await,
        Command::Audit(audit) => audit::run(&daemon, output, &audit).await,
        Command::Requests(requests) => requests::run(&daemon, output, requests).await,
        Command::Backup(backup) => backup::run(&daemon, output, &backup).await,
        Command::Doctor => doctor::run(&daemon, output).await,
        Command::Version => version::run(&daemon, output).await,
        Command::Bench(bench) => bench::run(&daemon, output, bench).await,
        Command::Completions(completions) => completions::run(output, &completions),
        Command::Man(man) => man::run(output, &man),
    }
}
