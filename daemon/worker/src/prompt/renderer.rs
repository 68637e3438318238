//! The worker's side of the process that renders the chat template and tries shapes: started, asked, given up and started
//! again.
//!
//! Whatever a template or a shape does to its process, here it is an error of the one request that brought it. Every wait
//! is bounded, also against a process that neither answers nor ends. Each prompt thread has a renderer of its own, whose
//! process starts with its first task.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use engine::text::GrammarError;
use protocol::Error;

use crate::guard::Limits;
use crate::render::{self, EXIT_LARGE, EXIT_LATE, SHAPE_LIMITS, Task, ToRender, Told};

/// How long past its own limit a process may take to end itself.
const GRACE: Duration = Duration::from_secs(5);

/// Which program renders the templates of which folder.
#[derive(Clone, Debug)]
pub struct Renderer {
    /// This very program, which renders when it is told `render`.
    pub program: PathBuf,
    /// The model's folder.
    pub dir: PathBuf,
    /// What one rendering may take.
    pub limits: Limits,
}

/// A renderer and its process, if it has one.
pub struct Rendering {
    renderer: Renderer,
    process: Option<Process>,
}

/// A process that renders.
struct Process {
    child: Child,
    asks: SyncSender<Task>,
    told: Receiver<io::Result<Option<Told>>>,
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template says so, or cannot be read.
    #[error("{0}")]
    Template(String),
    /// It took too long.
    #[error("the model's chat template did not come to an end within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// It took too much memory.
    #[error("the model's chat template took more than {} MiB of memory", .0 >> 20)]
    Large(u64),
    /// It ended the process in some other way.
    #[error("the model's chat template crashed the process that renders it ({0})")]
    Crashed(String),
    /// The process does not start.
    #[error("the process that renders chat templates cannot be started: {0}")]
    Start(#[source] io::Error),
}

/// Why a grammar is not to be compiled.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    /// It costs too much.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// There is no process to try it in.
    #[error(transparent)]
    Process(#[from] RenderError),
}

impl From<RenderError> for Error {
    fn from(error: RenderError) -> Self {
        let told = Self::invalid("messages", error.to_string());
        match error {
            RenderError::Template(_) => told,
            RenderError::Start(_) => Self::internal(error.to_string()),
            RenderError::Late(_) | RenderError::Large(_) | RenderError::Crashed(_) => {
                told.hint("shorten the conversation; if that does not help, replace the model's chat_template.jinja")
            }
        }
    }
}

impl Renderer {
    /// A renderer that has no process yet.
    pub fn new(program: &Path, dir: &Path, limits: Limits) -> Self {
        Self { program: program.to_path_buf(), dir: dir.to_path_buf(), limits }
    }

    /// For one thread.
    pub fn rendering(&self) -> Rendering {
        Rendering { renderer: self.clone(), process: None }
    }
}

impl Rendering {
    /// Starts the process, unless it lives, and waits until it has compiled the template.
    pub fn start(&mut self) -> Result<(), RenderError> {
        // One that was killed while it was idle is no fault of the conversation that comes next.
        if self.process.as_mut().is_some_and(|process| matches!(process.child.try_wait(), Ok(None))) {
            return Ok(());
        }
        self.process = Some(Process::start(&self.renderer).map_err(RenderError::Start)?);
        match self.hear(self.renderer.limits)? {
            Told::Ready => Ok(()),
            Told::Failed(problem) | Told::Raised(problem) | Told::Prompt(problem) => {
                self.process = None;
                Err(RenderError::Template(problem))
            }
            Told::Tried => Err(self.give_up(self.renderer.limits)),
        }
    }

    /// The prompt of a conversation.
    pub fn render(&mut self, ask: ToRender) -> Result<String, RenderError> {
        match self.ask(Task::Render(ask), self.renderer.limits)? {
            Told::Prompt(prompt) => Ok(prompt),
            Told::Raised(words) | Told::Failed(words) => Err(RenderError::Template(words)),
            Told::Ready | Told::Tried => Err(self.give_up(self.renderer.limits)),
        }
    }

    /// Sees that a written grammar can be compiled at a bounded cost.
    pub fn try_grammar(&mut self, written: &str) -> Result<(), TryError> {
        self.start()?;
        match self.ask(Task::Try(written.to_string()), SHAPE_LIMITS) {
            Ok(_) => Ok(()),
            Err(RenderError::Late(_)) => Err(GrammarError::TooSlow.into()),
            Err(RenderError::Large(bytes)) => Err(GrammarError::TooMuchMemory(bytes).into()),
            Err(RenderError::Crashed(_)) => {
                Err(GrammarError::Invalid("the grammar compiler failed".to_string()).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ask(&mut self, task: Task, limits: Limits) -> Result<Told, RenderError> {
        self.start()?;
        if let Some(process) = &self.process {
            // A process that has ended since is seen by `hear`.
            let _ = process.asks.send(task);
        }
        self.hear(limits)
    }

    fn hear(&mut self, limits: Limits) -> Result<Told, RenderError> {
        let Some(process) = &self.process else { return Err(RenderError::Crashed("it has ended".to_string())) };
        match process.told.recv_timeout(limits.time + GRACE) {
            Ok(Ok(Some(told))) => Ok(told),
            Err(RecvTimeoutError::Timeout) => {
                self.process = None;
                Err(RenderError::Late(limits.time + GRACE))
            }
            Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.give_up(limits)),
        }
    }

    /// Why the process has ended; the next conversation gets another.
    fn give_up(&mut self, limits: Limits) -> RenderError {
        let Some(mut process) = self.process.take() else { return RenderError::Crashed("it has ended".to_string()) };
        // Where it has ended by itself, the kill comes too late to change its status.
        let _ = process.child.kill();
        match process.child.wait() {
            Ok(status) if status.code() == Some(EXIT_LATE) => RenderError::Late(limits.time),
            Ok(status) if status.code() == Some(EXIT_LARGE) => RenderError::Large(limits.bytes),
            Ok(status) => RenderError::Crashed(status.to_string()),
            Err(error) => RenderError::Crashed(error.to_string()),
        }
    }
}

impl Process {
    fn start(renderer: &Renderer) -> io::Result<Self> {
        let Renderer { program, dir, limits } = renderer;
        let mut child = Command::new(program)
            .arg("render")
            .arg(dir)
            .args([limits.time.as_millis().to_string(), limits.bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let (input, output) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
        let (asks, to_ask) = sync_channel(1);
        let (tell, told) = sync_channel(1);
        Builder::new().name("renderer".to_string()).spawn(move || exchange(input, output, &to_ask, &tell))?;
        Ok(Self { child, asks, told })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone, in most cases that have a reason.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts questions to the process and passes its answers on, on a thread that may wait for it as long as it lives.
fn exchange(
    mut input: impl Write,
    mut output: impl Read,
    asks: &Receiver<Task>,
    tell: &SyncSender<io::Result<Option<Told>>>,
) {
    loop {
        let told = render::read(&mut output);
        let over = !matches!(told, Ok(Some(_)));
        if tell.send(told).is_err() || over {
            return;
        }
        let Ok(ask) = asks.recv() else { return };
        if let Err(error) = render::write(&mut input, &ask) {
            let _ = tell.send(Err(error));
            return;
        }
    }
}
