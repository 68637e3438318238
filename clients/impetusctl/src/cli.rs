//! The command line as the user types it; what it means is decided in `commands`.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::values::{keep_alive, percent, seconds};

/// Exit codes, as `--help` shows them.
const EXIT_CODES: &str = "Exit codes:
  0 done   1 failed   2 wrong usage   3 not found   4 busy or out of memory   5 not allowed
  6 not reachable   7 invalid or unsupported request   130 cancelled

Environment:
  IMPETUS_HOME    the folder of all state       IMPETUS_SOCKET  the daemon's socket";

/// Private AI on this machine: models that every program can use.
#[derive(Debug, Parser)]
#[command(name = "impetusctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub json: bool,
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the daemon and the HTTP bridge
    Serve(Serve),
    /// Stop the daemon and its bridges
    Stop(Stop),
    /// Answer one prompt
    Run(Run),
    /// Talk with a model
    Chat(Chat),
    /// Turn texts into vectors
    Embed(Embed),
    /// List models, show one, or add one from a folder or a GGUF file
    Models(Models),
    /// List the models in memory
    Ps,
    /// Fetch a model from the Hugging Face hub
    Pull(Pull),
    /// Forget a model
    Rm(Rm),
    /// Bring a model into memory
    Load(Load),
    /// Take a model out of memory
    Unload(Unload),
    /// Show how the daemon is
    Status,
    /// Show the daemon's log
    Logs(Logs),
    /// Make, list, rotate and revoke keys of the HTTP bridge
    Key(Key),
    /// List, read and change the settings of the running daemon
    Config(Config),
    /// Show who changed keys, models and settings
    Audit(Audit),
    /// Show what was asked of which model, without what was said
    Requests(Requests),
    /// Write a copy of the database to a new file
    ///
    /// Keys (not their secrets), settings that were changed, which models there are, and what clients had kept; no files beside
    /// it. To go back: stop the daemon, move impetus.db and impetus.db-wal out of its home, put the copy in place of impetus.db.
    Backup(Backup),
    /// Check this installation and name what is wrong
    Doctor,
    /// Show the versions of this program and of the daemon
    Version,
    /// Measure how fast a model is on this machine
    ///
    /// Decoding stands beside what the memory allows. Prompts and batches are bound by arithmetic, whose peak is not measured.
    Bench(Bench),
    /// Print completions for a shell
    Completions(Completions),
    /// Write a manual page for every command
    Man(Man),
}

/// Start the daemon and the HTTP bridge.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Return when both are ready and leave them running
    #[arg(long)]
    pub detach: bool,
    /// Where the HTTP bridge listens [default: 127.0.0.1:8420, or where one listens already]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,
    /// Start no HTTP bridge
    #[arg(long, conflicts_with = "http")]
    pub no_http: bool,
    /// A host name that HTTP requests may carry besides this machine's
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// A web origin whose pages may ask, as in https://chat.example
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// Have the HTTP bridge speak TLS with this certificate, and those that vouch for it, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<String>,
    /// The certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<String>,
}

/// Stop the daemon and its bridges.
#[derive(Debug, Args)]
pub struct Stop {
    /// How many seconds running work may still take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true)]
    pub drain: u64,
}

/// How an answer is made.
#[derive(Clone, Debug, Args)]
pub struct Generation {
    /// The model; the daemon's default otherwise
    #[arg(long, short)]
    pub model: Option<String>,
    /// The most tokens to generate
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<u32>,
    /// 0 is greedy, 2 is wild
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Make the answer repeatable
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Instructions that go before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Show speed and token counts after the answer
    #[arg(long, short)]
    pub verbose: bool,
}

/// Turn texts into vectors.
#[derive(Debug, Args)]
pub struct Embed {
    /// The model; the daemon's default embedder otherwise
    #[arg(long, short)]
    pub model: Option<String>,
    /// How many numbers a vector has; all of the model's otherwise
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub dimensions: Option<u32>,
    /// Leave out the end of a text that is too long, instead of refusing it
    #[arg(long)]
    pub truncate: bool,
    /// The texts; one vector each, a line of JSON
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<String>,
}

/// Answer one prompt.
#[derive(Debug, Args)]
pub struct Run {
    /// How the answer is made
    #[command(flatten)]
    pub generation: Generation,
    /// Hold the answer to the JSON schema in this file
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// The prompt, in one or more words; `-` stands for standard input, and so do no words at all
    #[arg(value_name = "PROMPT")]
    pub words: Vec<String>,
}

/// Talk with a model.
#[derive(Debug, Args)]
pub struct Chat {
    /// How answers are made
    #[command(flatten)]
    pub generation: Generation,
}

/// List models, show one, or add one from a folder or a GGUF file.
#[derive(Debug, Args)]
pub struct Models {
    /// What to do with models; lists them otherwise
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models, as no command at all does
    List,
    /// Register a folder in Hugging Face layout; its files stay where they are
    Add {
        /// The folder
        path: PathBuf,
        /// The name to give it; the folder's otherwise
        #[arg(long)]
        name: Option<String>,
    },
    /// Make a model of a GGUF file; the file stays, and is no longer needed
    Import {
        /// The file
        path: PathBuf,
        /// The name to give it; the file's otherwise
        #[arg(long)]
        name: Option<String>,
    },
    /// Show what is known of a model
    Show {
        /// The model
        model: String,
    },
}

/// Fetch a model from the Hugging Face hub.
#[derive(Debug, Args)]
pub struct Pull {
    /// The repository, ORG/NAME
    pub repo: String,
    /// A branch, tag or commit
    #[arg(long)]
    pub revision: Option<String>,
    /// The name to give it; ORG/NAME otherwise
    #[arg(long)]
    pub name: Option<String>,
}

/// Forget a model.
#[derive(Debug, Args)]
pub struct Rm {
    /// The model
    pub model: String,
    /// Keep the files that Impetus downloaded or made for it
    #[arg(long)]
    pub keep_files: bool,
}

/// Bring a model into memory.
#[derive(Debug, Args)]
pub struct Load {
    /// The model
    pub model: String,
    /// Never evict it, now or after a restart
    #[arg(long)]
    pub pin: bool,
    /// Let it be evicted again
    #[arg(long, conflicts_with = "pin")]
    pub unpin: bool,
    /// How long it stays without work, until the daemon ends, as in 90 (seconds), 15m, 2h or forever
    #[arg(long, value_name = "TIME", value_parser = keep_alive)]
    pub keep_alive: Option<u64>,
}

/// Take a model out of memory.
#[derive(Debug, Args)]
pub struct Unload {
    /// The model
    pub model: String,
}

/// Show the daemon's log.
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on as the log grows
    #[arg(long, short)]
    pub follow: bool,
    /// How many lines to show
    #[arg(long, short = 'n', default_value_t = 100)]
    pub lines: usize,
}

/// Make, list, rotate and revoke keys of the HTTP bridge.
#[derive(Debug, Args)]
pub struct Key {
    /// What to do with keys
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Print the first key, made at the first start; or what is known of another one
    Show {
        /// The key's id
        id: Option<String>,
    },
    /// List the keys
    List,
    /// Make a key and print its secret, this once
    Create(CreateKey),
    /// Give a key a new secret and print it, this once
    Rotate {
        /// The key's id
        id: String,
        /// For how long the old secret still works, as in 90s, 15m, 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = seconds)]
        grace: u64,
    },
    /// Take a key back, at once and for good
    Revoke {
        /// The key's id
        id: String,
    },
}

/// Make a key.
#[derive(Debug, Args)]
pub struct CreateKey {
    /// What the key is for
    pub label: String,
    /// What it may do: look, make models work too, or everything
    #[arg(long, value_enum, default_value_t = Role::User)]
    pub role: Role,
    /// A model it may use; all of them otherwise
    #[arg(long = "model", short, value_name = "MODEL")]
    pub models: Vec<String>,
    /// How long it works, as in 12h or 30d; for ever otherwise
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub expires: Option<u64>,
    /// Requests a minute that make a model work; 0 is any number [default: 60, for administrators any number]
    #[arg(long, value_name = "N")]
    pub inference_per_minute: Option<u32>,
    /// Requests a minute that only look; 0 is any number [default: 120, for administrators any number]
    #[arg(long, value_name = "N")]
    pub reads_per_minute: Option<u32>,
    /// Requests a day (UTC) that make a model work; any number otherwise
    #[arg(long, value_name = "N")]
    pub requests_per_day: Option<u64>,
    /// Tokens a day (UTC), read and written, after which an answer ends; any number otherwise
    #[arg(long, value_name = "N")]
    pub tokens_per_day: Option<u64>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// Look
    Readonly,
    /// Look, and make models work
    User,
    /// Everything
    Admin,
}

/// List, read and change the settings of the running daemon.
#[derive(Debug, Args)]
pub struct Config {
    /// What to do with settings; lists them otherwise
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List the settings that can be changed while the daemon runs
    List,
    /// Print the value of one setting
    Get {
        /// The setting, as in memory.budget
        name: String,
    },
    /// Change a setting; it stays changed after a restart
    Set {
        /// The setting, as in memory.budget
        name: String,
        /// What it is to be, as config.toml would hold it: 75%, 8GB, 15m, true
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a change back: what the configuration says holds again
    Reset {
        /// The setting, as in memory.budget
        name: String,
    },
}

/// Show who changed keys, models and settings.
#[derive(Debug, Args)]
pub struct Audit {
    /// How many entries, the newest ones
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub lines: u32,
}

/// Show what was asked of which model.
#[derive(Debug, Args)]
pub struct Requests {
    /// How many entries, the newest ones
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub lines: u32,
    /// Only those for this model
    #[arg(long, short)]
    pub model: Option<String>,
    /// Only those of this key
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
}

/// Measure how fast a model is on this machine.
#[derive(Debug, Args)]
pub struct Bench {
    /// The model, one that generates or embeds; the daemon's default otherwise
    pub model: Option<String>,
    /// Samples of each measure; their medians are reported
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Tokens of the prompt, or of the text, whose reading is timed
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub prompt: u32,
    /// Tokens of each answer, or of each text of a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub tokens: u32,
    /// Streams, or texts, of the batch
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub streams: u32,
    /// Save the report for later comparisons
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare with a saved report; a regression is a failure
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// By how many percent a figure may be worse than the baseline
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, requires = "baseline", value_parser = percent)]
    pub regression: f64,
}

/// Write a copy of the database to a new file.
#[derive(Debug, Args)]
pub struct Backup {
    /// The file, which must not exist yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Write a manual page for every command.
#[derive(Debug, Args)]
pub struct Man {
    /// Where to, as in ~/.local/share/man/man1; it is made if need be
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Shells with completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// Bash
    Bash,
    /// Zsh
    Zsh,
    /// Fish
    Fish,
}
