//! A daemon, and if wanted a bridge, in a temporary home; both are killed when the house is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocol::client::{Client, Patience};
use protocol::generation::{Chat, GenerateRequest, Message, Priority, Prompt, Role, Sampling, Stop};
use tempfile::TempDir;

use crate::http::Http;
use crate::programs::program;
use crate::wait;

/// How a house is started.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Lines of `config.toml`.
    pub config: String,
    /// Environment variables for the daemon.
    pub environment: Vec<(String, String)>,
    /// Whether nobody reads what the daemon logs on standard error.
    pub unread_log: bool,
}

/// A running daemon with a home of its own.
pub struct House {
    home: TempDir,
    plan: Plan,
    daemon: Child,
    bridge: Option<Child>,
    /// Bridges besides that one.
    others: Vec<Child>,
}

impl House {
    /// Starts a daemon with the default configuration.
    pub fn start() -> Self {
        Self::with(Plan::default())
    }

    /// Starts a daemon as planned.
    pub fn with(plan: Plan) -> Self {
        let home = tempfile::Builder::new().prefix("impetus").tempdir().expect("the temporary folder is writable");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).expect("the home is ours");
        fs::write(home.path().join("config.toml"), &plan.config).expect("the home is writable");
        let daemon = spawn_daemon(home.path(), &plan);
        Self { home, plan, daemon, bridge: None, others: Vec::new() }
    }

    /// Returns the folder of all state.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the socket's path.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("s")
    }

    /// Returns the daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Returns the bridge's process id, once there is one.
    pub fn bridge_pid(&self) -> Option<u32> {
        self.bridge.as_ref().map(Child::id)
    }

    /// Connects a new client.
    pub async fn client(&self) -> Client {
        Client::connect(&self.socket(), "tests/0", Patience(wait::LIMIT)).await.expect("the daemon answers")
    }

    /// Starts a bridge on a free port and returns a way to speak to it, with the first key.
    pub async fn http(&mut self) -> Http {
        self.http_with(&[]).await
    }

    /// The same with more flags.
    pub async fn http_with(&mut self, flags: &[&str]) -> Http {
        let (bridge, http) = self.spawn_bridge(flags).await;
        self.bridge = Some(bridge);
        http
    }

    /// Starts one more bridge.
    pub async fn another_http(&mut self, flags: &[&str]) -> Http {
        let (bridge, http) = self.spawn_bridge(flags).await;
        self.others.push(bridge);
        http
    }

    async fn spawn_bridge(&self, flags: &[&str]) -> (Child, Http) {
        let client = self.client().await;
        let mut bridge = Command::new(program("impetus-http"))
            .args(["--listen", "127.0.0.1:0", "--socket"])
            .arg(self.socket())
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the bridge starts");
        // Nobody reads its log, which is no reason to fail.
        drop(bridge.stderr.take());
        let url = wait::for_some("the bridge's announcement", || async {
            let bridges = client.status().await.expect("the daemon answers").bridges;
            bridges.into_iter().find(|announced| announced.pid == bridge.id()).map(|bridge| bridge.url)
        })
        .await;
        let key = client.first_key().await.expect("there is a first key");
        (bridge, Http::new(url.strip_prefix("http://").expect("the bridge speaks http"), &key))
    }

    /// Kills the daemon as an accident would, and waits for its end.
    pub fn kill_daemon(&mut self) {
        // The process may have ended by itself; then there is nothing to kill.
        let _ = self.daemon.kill();
        self.daemon.wait().expect("the daemon was our child");
    }

    /// Kills the bridge as an accident would, and waits until the daemon has noticed.
    pub async fn kill_bridge(&mut self) {
        let Some(mut bridge) = self.bridge.take() else { return };
        // The process may have ended by itself; then there is nothing to kill.
        let _ = bridge.kill();
        bridge.wait().expect("the bridge was our child");
        let client = self.client().await;
        wait::for_some("the end of the announcement", || async {
            client.status().await.expect("the daemon answers").bridges.is_empty().then_some(())
        })
        .await;
    }

    /// Starts the daemon again in the same home.
    pub fn restart_daemon(&mut self) {
        self.kill_daemon();
        self.daemon = spawn_daemon(self.home.path(), &self.plan);
    }

    /// Waits for the daemon's own end and says whether it went well.
    pub fn daemon_ended(&mut self) -> bool {
        let mut status = None;
        wait::until("the daemon ends", || {
            status = self.daemon.try_wait().expect("the daemon is our child");
            status.is_some()
        });
        status.is_some_and(|status| status.success())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for child in [&mut self.daemon].into_iter().chain(&mut self.bridge).chain(&mut self.others) {
            // Already ended is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn_daemon(home: &Path, plan: &Plan) -> Child {
    let log =
        fs::OpenOptions::new().create(true).append(true).open(home.join("stderr.log")).expect("the home is writable");
    let mut daemon = Command::new(program("impetusd"))
        .arg("--socket")
        .arg(home.join("s"))
        .env("IMPETUS_HOME", home)
        .env("IMPETUS_ENV", "testing")
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(if plan.unread_log { Stdio::piped() } else { log.into() })
        .spawn()
        .expect("the daemon starts");
    drop(daemon.stderr.take());
    wait::until("the daemon listens", || UnixStream::connect(home.join("s")).is_ok());
    daemon
}

/// Returns a greedy request for the answer to one question.
pub fn question(model: Option<&str>, text: &str, max_tokens: u32) -> GenerateRequest {
    let message = Message {
        role: Role::User,
        content: text.to_owned(),
        reasoning: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    let mut request = raw(model, text, max_tokens);
    request.prompt = Prompt::Chat(Chat { messages: vec![message], ..Chat::default() });
    request.stop.ignore_eos = false;
    request
}

/// Returns a greedy request to continue raw text for exactly `max_tokens` tokens.
pub fn raw(model: Option<&str>, text: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: model.map(str::to_owned),
        prompt: Prompt::Text(text.to_owned()),
        sampling: Sampling { temperature: Some(0.0), seed: Some(7), ..Sampling::default() },
        stop: Stop { max_tokens: Some(max_tokens), ignore_eos: true, ..Stop::default() },
        logprobs: None,
        choices: 1,
        priority: Priority::Normal,
        deadline_ms: Some(Duration::from_secs(120).as_millis() as u64),
        constraint: None,
        prompt_logprobs: false,
        further: false,
        following: 0,
    }
}
