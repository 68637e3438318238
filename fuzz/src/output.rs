//! What a model writes: reasoning, tool calls and stop strings are told apart the same way however the text is cut.

use protocol::generation::ToolCallDelta;
use worker::output::{End, Functions, Output, OutputOptions, Piece, Place, ReasoningTags, ToolFormat};

use crate::choice;

const FORMATS: [Option<ToolFormat>; 16] = [
    None,
    Some(ToolFormat::Hermes),
    Some(ToolFormat::Llama3),
    Some(ToolFormat::Mistral),
    Some(ToolFormat::MistralList),
    Some(ToolFormat::Command),
    Some(ToolFormat::DeepSeek),
    Some(ToolFormat::DeepSeekFenced),
    Some(ToolFormat::Glm),
    Some(ToolFormat::Coder),
    Some(ToolFormat::FunctionGemma),
    Some(ToolFormat::Gemma4),
    Some(ToolFormat::Listed),
    Some(ToolFormat::Action),
    Some(ToolFormat::Nemotron),
    Some(ToolFormat::Glm4),
];

#[derive(Debug, Default, PartialEq)]
struct Whole {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    stopped: Option<String>,
}

/// Reads a text in one piece, in letters and in pieces of two lengths.
pub fn read(bytes: &[u8]) {
    let (kind, bytes) = choice(bytes);
    let (more, bytes) = choice(bytes);
    let text = String::from_utf8_lossy(bytes);
    let options = OutputOptions {
        stop_strings: if more & 4 == 0 { Vec::new() } else { vec!["stop".to_owned(), "\n\n".to_owned()] },
        reasoning: (more & 1 == 0).then_some(ReasoningTags {
            open: "<think>",
            close: "</think>",
            place: if more & 2 == 0 { Place::Opened } else { Place::Start },
        }),
        wrapped: more & 64 != 0,
        tools: FORMATS[kind % FORMATS.len()],
        shaped: more & 128 != 0,
        harmony: more & 24 == 24,
        begun: more & 32 != 0,
        calls_only: more & 24 == 8,
        functions: Functions::of(["f", "g"].map(|name| (name, &serde_json::Value::Null))),
        call_id_seed: 3,
    };
    let end = [End::Whole, End::Cut, End::Closing][more % 3];
    let whole = gather(end, &options, [&*text].into_iter());
    for length in [1, 2, 7] {
        let letters: Vec<char> = text.chars().collect();
        let cuts: Vec<String> = letters.chunks(length).map(|cut| cut.iter().collect()).collect();
        assert_eq!(gather(end, &options, cuts.iter().map(String::as_str)), whole, "cut every {length} letters");
    }
    for (_, arguments) in &whole.calls {
        assert!(serde_json::from_str::<serde_json::Value>(arguments).is_ok(), "arguments are JSON: {arguments:?}");
    }
}

fn gather<'a>(end: End, options: &OutputOptions, cuts: impl Iterator<Item = &'a str>) -> Whole {
    let mut output = Output::new(options.clone());
    let mut pieces: Vec<Piece> = cuts.map(|cut| output.push(cut)).collect();
    pieces.push(output.finish(end));
    let mut whole = Whole::default();
    for piece in pieces {
        whole.text += &piece.text;
        whole.reasoning += &piece.reasoning;
        whole.stopped = whole.stopped.or(piece.stopped);
        for ToolCallDelta { index, id, name, arguments } in piece.tool_calls {
            if let (Some(_), Some(name)) = (id, name) {
                whole.calls.push((name, String::new()));
            }
            whole.calls[usize::from(index)].1 += &arguments;
        }
    }
    whole
}
