//! `impetusctl chat`: a conversation at the terminal, with history and a few commands. What is typed is kept in memory only.

use std::io::{ErrorKind, IsTerminal};

use protocol::generation::{GenerateRequest, Message, Role};
use protocol::{Error, Result};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

use super::answer::{self, Ended, Show};
use crate::cli::{Chat, Generation};
use crate::daemon::Daemon;
use crate::output::{Output, line, note};

const COMMANDS: &str = "/clear           forget the conversation
/model NAME      talk with another model
/system TEXT     set the instructions and forget the conversation
/verbose         show or hide speeds
/help            show this
/exit            leave (Ctrl-D does too)";

/// How many lines of history are kept.
const HISTORY_MAX: usize = 1000;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, chat: Chat) -> Result<()> {
    if output.json {
        return Err(Error::invalid("json", "chat talks with people; use `impetusctl run --json` from programs."));
    }
    let client = daemon.start().await?;
    let mut conversation = Conversation::new(chat.generation);
    let mut editor = Some(Line::new()?);
    line("Ctrl-C cancels an answer, Ctrl-D leaves, /help shows commands.")?;
    loop {
        // The editor blocks, so it reads on a thread of its own; the daemon's replies go on meanwhile.
        let mut reader = editor.take().expect("the editor is put back below");
        let (reader, read) = tokio::task::spawn_blocking(move || {
            let read = reader.read();
            (reader, read)
        })
        .await
        .map_err(|error| Error::internal(format!("The line editor failed: {error}.")))?;
        editor = Some(reader);
        let Some(typed) = read? else { return Ok(()) };
        match conversation.hear(&typed)? {
            Heard::Nothing => {}
            Heard::Leave => return Ok(()),
            Heard::Question => {
                let asked = answer::stream(&client, conversation.request(), Show::to(output)).await;
                line("")?;
                conversation.close(asked)?;
            }
        }
    }
}

enum Heard {
    Nothing,
    Question,
    Leave,
}

struct Conversation {
    generation: Generation,
    messages: Vec<Message>,
}

impl Conversation {
    fn new(generation: Generation) -> Self {
        Self { messages: answer::opening(&generation), generation }
    }

    fn request(&self) -> GenerateRequest {
        answer::request(&self.generation, self.messages.clone(), None)
    }

    fn hear(&mut self, typed: &str) -> Result<Heard> {
        let typed = typed.trim();
        let Some(command) = typed.strip_prefix('/') else {
            if typed.is_empty() {
                return Ok(Heard::Nothing);
            }
            self.messages.push(answer::message(Role::User, typed.to_owned()));
            return Ok(Heard::Question);
        };
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim();
        match (name, argument) {
            ("exit" | "quit" | "bye", "") => return Ok(Heard::Leave),
            ("help" | "?", _) => line(COMMANDS)?,
            ("clear", "") => self.messages = answer::opening(&self.generation),
            ("verbose", "") => self.generation.verbose = !self.generation.verbose,
            ("model", model) if !model.is_empty() => self.generation.model = Some(model.to_owned()),
            ("system", system) if !system.is_empty() => {
                self.generation.system = Some(system.to_owned());
                self.messages = answer::opening(&self.generation);
            }
            _ => line(format_args!("'{typed}' is no command.\n{COMMANDS}"))?,
        }
        Ok(Heard::Nothing)
    }

    /// Keeps an answer as a turn; a question that failed, or was cancelled before a word came, is taken back.
    fn close(&mut self, asked: Result<answer::Answer>) -> Result<()> {
        match asked {
            Ok(answer) if answer.ended == Ended::Cancelled && answer.text.is_empty() => {
                self.messages.pop();
            }
            Ok(answer) => {
                if self.generation.verbose && answer.ended == Ended::Whole {
                    note(answer.speed());
                }
                self.messages.push(answer::message(Role::Assistant, answer.text));
            }
            Err(error) => {
                self.messages.pop();
                // The conversation goes on; only this question failed.
                let _ = Output { json: false }.failure(&error);
            }
        }
        Ok(())
    }
}

struct Line {
    editor: Editor<(), MemHistory>,
}

impl Line {
    fn new() -> Result<Self> {
        let failed = |error: ReadlineError| Error::internal(format!("The terminal failed: {error}."));
        let config = Config::builder().max_history_size(HISTORY_MAX).map_err(failed)?.auto_add_history(true).build();
        let history = MemHistory::with_config(&config);
        let editor = Editor::with_history(config, history).map_err(failed)?;
        Ok(Self { editor })
    }

    /// Reads a line; `None` at the end of input.
    fn read(&mut self) -> Result<Option<String>> {
        match self.editor.readline("> ") {
            Ok(typed) => Ok(Some(typed)),
            Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
            Err(ReadlineError::Eof) => Ok(None),
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                let error =
                    Error::invalid("prompt", "The line is not UTF-8 text.").hint("Convert it, with iconv for example.");
                // A person types the line again; a program is told that its input is wrong.
                if !std::io::stdin().is_terminal() {
                    return Err(error);
                }
                let _ = Output { json: false }.failure(&error);
                Ok(Some(String::new()))
            }
            Err(error) => Err(Error::internal(format!("The terminal failed: {error}."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        Conversation::new(Generation {
            model: None,
            max_tokens: None,
            temperature: None,
            seed: None,
            system: Some("Be brief.".into()),
            verbose: false,
        })
    }

    #[test]
    fn clearing_keeps_the_instructions() {
        let mut conversation = conversation();
        assert!(matches!(conversation.hear("hello").unwrap(), Heard::Question));
        assert_eq!(conversation.messages.len(), 2);
        conversation.hear("/clear").unwrap();
        assert_eq!(conversation.messages.len(), 1);
        assert_eq!(conversation.messages[0].content, "Be brief.");
    }

    #[test]
    fn a_failed_question_is_taken_back() {
        let mut conversation = conversation();
        conversation.hear("hello").unwrap();
        conversation.close(Err(Error::internal("gone"))).unwrap();
        assert_eq!(conversation.messages.len(), 1);
        conversation.hear("hello").unwrap();
        let cancelled = answer::Answer { ended: Ended::Cancelled, ..answer::Answer::default() };
        conversation.close(Ok(cancelled)).unwrap();
        assert_eq!(conversation.messages.len(), 1);
    }

    #[test]
    fn commands_are_not_sent_to_the_model() {
        let mut conversation = conversation();
        for typed in ["/help", "/nonsense", "/model other", "  ", "/verbose"] {
            assert!(matches!(conversation.hear(typed).unwrap(), Heard::Nothing), "{typed}");
        }
        assert_eq!(conversation.generation.model.as_deref(), Some("other"));
        assert_eq!(conversation.messages.len(), 1);
    }
}
