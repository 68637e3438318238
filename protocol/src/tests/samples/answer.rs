//! What an answer says: text, reasoning, a call, log-probabilities and the prompt.

use crate::generation::{Delta, PromptToken, TokenLogprob, ToolCallDelta};

pub(in crate::tests) fn delta() -> Delta {
    Delta {
        choice: 1,
        text: "Rain — 🌧".into(),
        reasoning: "So it is.".into(),
        tool_calls: vec![ToolCallDelta {
            index: 0,
            id: Some("call_2".into()),
            name: Some("weather".into()),
            arguments: "{\"city\":".into(),
        }],
        tokens: 1,
        logprobs: vec![TokenLogprob {
            token: 300,
            bytes: vec![0xf0, 0x9f],
            logprob: -0.25,
            top: vec![(300, vec![0xf0, 0x9f], -0.25), (7, b" sun".to_vec(), -2.75)],
        }],
        prompt: vec![
            PromptToken { token: 1, bytes: b"<s>".to_vec(), logprob: None, top: vec![] },
            PromptToken {
                token: 9,
                bytes: b"Will".to_vec(),
                logprob: Some(-3.5),
                top: vec![(8, b"The".to_vec(), -0.5)],
            },
        ],
    }
}
