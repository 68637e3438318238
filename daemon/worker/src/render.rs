//! Renders one model's chat template, and tries the shapes of answers, in a process of its own, where none can hold or harm
//! the worker.
//!
//! A template is a program from a stranger: one that doubles a string forty times, or counts to a billion, must cost one
//! request and nothing else; so must a schema that unfolds into a million others. So a guard ends this whole process when
//! a task takes too long or too much memory, and the exit code says which. Frames are a little-endian u32 length and
//! JSON: tasks in, what came of them out. The worker starts and asks it through `prompt/renderer`.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use engine::text::{Compiled, Conversation, Template, TemplateError, try_grammar};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::guard::{Excess, Guard, Limits};

/// The exit code of a process whose task took too long.
pub const EXIT_LATE: i32 = 80;
/// The exit code of a process whose task took too much memory.
pub const EXIT_LARGE: i32 = 81;

/// The longest frame; a conversation of the longest request fits even if JSON escapes each of its letters.
const FRAME_BYTES_MAX: usize = 512 << 20;

/// What one rendering may take. A conversation of 15 MB takes some 0.2 s and 150 MB.
pub const RENDER_LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 512 << 20 };

/// What a shape may take to be compiled. A schema of a hundred properties takes a few megabytes, and the worker keeps what
/// it compiled.
pub const SHAPE_LIMITS: Limits = Limits { time: Duration::from_secs(5), bytes: 128 << 20 };

/// What the process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// To render a conversation.
    Render(ToRender),
    /// To compile a written grammar, and throw it away.
    Try(String),
}

/// A conversation to render.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToRender {
    /// The messages as templates read them.
    pub messages: Value,
    /// The tools, if there are any.
    #[serde(default)]
    pub tools: Option<Value>,
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends where the text of the last message does.
    pub continue_final_message: bool,
    /// Further variables.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// The time that the template is told.
    pub now_unix_ms: i64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The template, if there is one, is compiled; said once, first.
    Ready,
    /// The grammar is tried.
    Tried,
    /// The prompt.
    Prompt(String),
    /// The template refuses the conversation, in its own words.
    Raised(String),
    /// The template cannot be read or fails, in words for the person who asked.
    Failed(String),
}

/// The exit code that says which limit a task went past.
fn code(excess: Excess) -> i32 {
    match excess {
        Excess::Late(_) => EXIT_LATE,
        Excess::Large(_) => EXIT_LARGE,
    }
}

/// Compiles the template of a folder, if it has one, and does what the input asks, until the input ends.
pub fn serve(dir: &Path, limits: Limits, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let guard = Guard::start(|excess| std::process::exit(code(excess)))?;
    guard.begin(limits);
    let template = match compile(dir) {
        Ok(template) => template,
        Err(problem) => return write(&mut output, &Told::Failed(problem)),
    };
    write(&mut output, &Told::Ready)?;
    guard.end();
    while let Some(task) = read::<Task>(&mut input)? {
        let told = match task {
            Task::Render(ask) => {
                guard.begin(limits);
                render(template.as_ref(), &ask)
            }
            Task::Try(grammar) => {
                guard.begin(SHAPE_LIMITS);
                try_grammar(&grammar);
                Told::Tried
            }
        };
        write(&mut output, &told)?;
        drop(told);
        guard.end();
    }
    Ok(())
}

fn compile(dir: &Path) -> Result<Option<Compiled>, String> {
    let template = Template::open(dir).map_err(|error| error.to_string())?;
    template.map(|template| template.compile().map_err(|error| error.to_string())).transpose()
}

fn render(template: Option<&Compiled>, ask: &ToRender) -> Told {
    let Some(template) = template else { return Told::Failed("the model has no chat template".to_string()) };
    let rendered = template.render(&Conversation {
        messages: &ask.messages,
        tools: ask.tools.as_ref(),
        add_generation_prompt: ask.add_generation_prompt,
        continue_final_message: ask.continue_final_message,
        arguments: &ask.arguments,
        now_unix_ms: ask.now_unix_ms,
    });
    match rendered {
        Ok(prompt) => Told::Prompt(prompt),
        Err(error @ TemplateError::Raised(_)) => Told::Raised(error.to_string()),
        Err(error) => Told::Failed(error.to_string()),
    }
}

/// Writes one frame and flushes it.
pub fn write<T: Serialize>(output: &mut impl Write, message: &T) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if body.len() > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {} bytes is longer than {FRAME_BYTES_MAX}", body.len())));
    }
    output.write_all(&(body.len() as u32).to_le_bytes())?;
    output.write_all(&body)?;
    output.flush()
}

/// Reads one frame; `None` where the input ends between two.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {bytes} bytes is longer than {FRAME_BYTES_MAX}")));
    }
    // Grows with what arrives, whatever length was announced.
    let mut body = Vec::new();
    input.take(bytes as u64).read_to_end(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}
