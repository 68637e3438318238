//! Finds the daemon, starts it where none runs, and starts the HTTP bridge beside it.
//!
//! Programs are looked for beside this one, so a build folder and an installation work alike. What is started here
//! outlives this program: it leads its own process group, away from the terminal's Ctrl-C, and logs to files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocol::client::{Client, Patience};
use protocol::status::Bridge;
use protocol::{Error, ErrorKind, Result, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

/// What this program calls itself.
const NAME: &str = concat!("impetusctl/", env!("CARGO_PKG_VERSION"));

/// How long a program that was started may take until it answers.
const START_MAX: Duration = Duration::from_secs(10);

/// How often a program that was started is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Files that a program may hold open: every stream of a client is one, and shells grant as few as 256.
const FILES: u64 = 8192;

/// Whether the daemon's log goes to standard error too.
const LOG_STDERR: &str = "IMPETUS_LOG_STDERR";

/// Where the daemon is.
pub struct Daemon {
    socket: PathBuf,
    home: PathBuf,
}

impl Daemon {
    /// Finds the socket: as given, else from the environment.
    pub fn new(given: Option<PathBuf>) -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name);
        let socket = match given {
            Some(socket) => socket,
            None => socket::path(&variable)
                .map_err(|error| Error::invalid("socket", error.to_string()).hint(error.hint()))?,
        };
        Ok(Self { socket, home: socket::home(&variable) })
    }

    /// Returns the folder of all state.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Connects to the daemon that runs; an error if none does.
    pub async fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket, NAME, Patience::NONE).await
    }

    /// Connects to the daemon, started first if none runs.
    pub async fn start(&self) -> Result<Client> {
        match self.connect().await {
            Err(error) if error.kind == ErrorKind::Unreachable => {}
            known => return known,
        }
        let mut child = self.spawn_daemon()?;
        self.connected(&mut child).await
    }

    /// Waits until the started daemon answers; its death is an error at once.
    pub async fn connected(&self, child: &mut Child) -> Result<Client> {
        let end = Instant::now() + START_MAX;
        loop {
            match self.connect().await {
                Err(error) if error.kind == ErrorKind::Unreachable && Instant::now() < end => {}
                known => return known,
            }
            self.alive("impetusd", child)?;
            sleep(LOOK).await;
        }
    }

    /// Starts the daemon.
    pub fn spawn_daemon(&self) -> Result<Child> {
        self.spawn("impetusd", &[])
    }

    /// Asks a daemon of another release to end, and waits for that as long as `patience`; whether it did.
    pub async fn end_other(&self, patience: Duration) -> Result<bool> {
        let end = Instant::now() + patience;
        Client::end(&self.socket).await?;
        while Instant::now() < end {
            if self.connect().await.is_err_and(|error| error.kind == ErrorKind::Unreachable) {
                return Ok(true);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Returns the process ids of the bridges that run, whether or not a daemon does.
    pub fn bridges(&self) -> Vec<u32> {
        socket::bridges::marked(&self.socket)
    }

    /// Starts a bridge with these flags.
    pub fn spawn_bridge(&self, flags: &[String]) -> Result<Child> {
        self.spawn("impetus-http", flags)
    }

    /// Waits until a started bridge has announced itself; returns what it announced.
    pub async fn announced(&self, client: &Client, child: &mut Child) -> Result<Bridge> {
        let pid = child.id();
        let end = Instant::now() + START_MAX;
        loop {
            let bridges = client.status().await?.bridges;
            if let Some(bridge) = bridges.into_iter().find(|bridge| bridge.pid == pid) {
                return Ok(bridge);
            }
            self.alive("impetus-http", child)?;
            if Instant::now() >= end {
                let message = format!("impetus-http did not announce itself within {} s.", START_MAX.as_secs());
                return Err(Error::new(ErrorKind::Unreachable, message).hint(self.log_hint("impetus-http")));
            }
            sleep(LOOK).await;
        }
    }

    fn alive(&self, program: &str, child: &mut Child) -> Result<()> {
        match child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Error::new(ErrorKind::Unreachable, format!("{program} ended at its start: {status}."))
                    .hint(self.log_hint(program)))
            }
            Err(error) => Err(Error::internal(format!("{program} cannot be watched: {error}."))),
        }
    }

    fn log_hint(&self, program: &str) -> String {
        let log = self.log_path(program);
        let text = fs::read_to_string(&log).unwrap_or_default();
        match last_words(&text, program) {
            Some(words) => format!("{} says: {words}", log.display()),
            None => format!("See {}.", log.display()),
        }
    }

    fn log_path(&self, program: &str) -> PathBuf {
        self.home.join("logs").join(format!("{program}.start.log"))
    }

    /// Starts a program out of the terminal's hands.
    fn spawn(&self, program: &str, arguments: &[String]) -> Result<Child> {
        let path = beside(program)?;
        more_files();
        let mut command = Command::new(&path);
        command.arg("--socket").arg(&self.socket).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log(program)?).process_group(0);
        // It has a log of its own, which is rotated; here it only says why it does not start.
        if std::env::var_os(LOG_STDERR).is_none() {
            command.env(LOG_STDERR, "false");
        }
        command.spawn().map_err(|error| Error::internal(format!("{} does not start: {error}.", path.display())))
    }

    /// Opens the file for what a started program says before it has a log of its own.
    fn log(&self, program: &str) -> Result<File> {
        let path = self.log_path(program);
        let failed = |error: std::io::Error| {
            Error::internal(format!("{} cannot be written: {error}.", path.display()))
                .hint("Make the folder writable, or set IMPETUS_HOME to one that is.")
        };
        // Only its owner reads the state, whoever makes the folder first.
        DirBuilder::new().recursive(true).mode(0o700).create(self.home.join("logs")).map_err(failed)?;
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path).map_err(failed)
    }
}

/// Lets the programs hold as many files open as the installed services may, where the system lets us.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        // They run with fewer too, and say when there are too few.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// Returns what a program said at its end: from the last line that bears its name on, else the last line.
fn last_words<'a>(text: &'a str, program: &str) -> Option<&'a str> {
    let text = text.trim_end();
    let name = format!("{program}: ");
    let named = text.rfind(&format!("\n{name}")).map(|at| at + 1).or_else(|| text.starts_with(&name).then_some(0));
    named.map(|at| &text[at..]).or_else(|| text.lines().last()).filter(|words| !words.is_empty())
}

fn beside(program: &str) -> Result<PathBuf> {
    let own =
        std::env::current_exe().map_err(|error| Error::internal(format!("This program has no path: {error}.")))?;
    let path = own.with_file_name(program);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(ErrorKind::NotFound, format!("{} is missing.", path.display()))
        .hint("Build or install the whole of Impetus: its programs live in one folder."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_program_are_whole() {
        let text = "impetusd: old\nimpetusd: config.toml: TOML parse error\n  |\n1 | not toml\nexpected `=`\n\n";
        assert_eq!(last_words(text, "impetusd"), Some(&text["impetusd: old\n".len()..text.len() - 2]));
        assert_eq!(last_words("a\nb\n", "impetusd"), Some("b"));
        assert_eq!(last_words("\n", "impetusd"), None);
    }
}
