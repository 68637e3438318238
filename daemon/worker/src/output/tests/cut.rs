//! What is shown of an answer that its limit cuts off in the middle of a call, or of the end of its reasoning.

use super::*;

fn cut_off(options: &OutputOptions, text: &str) -> Whole {
    let whole = gather_to(End::Cut, options, &[text]);
    for seed in 0..5 {
        assert_eq!(gather_to(End::Cut, options, &cut(text, seed)), whole, "cut by seed {seed}: {text:?}");
    }
    whole
}

#[test]
fn nothing_is_shown_of_a_call_that_is_cut_off_behind_its_marker() {
    for (format, marker, call) in [
        (ToolFormat::Hermes, "<tool_call>", "\n{\"name\": \"weather\", \"arguments\": {"),
        (ToolFormat::Llama3, "<|python_tag|>", "{\"name\": \"weather\", \"parameters\": {"),
        (ToolFormat::Llama3, "<|python_tag|>", "weather.call(city=\"Kyiv\""),
        (ToolFormat::Mistral, "[TOOL_CALLS]", "weather[ARGS]{"),
        (ToolFormat::MistralList, "[TOOL_CALLS]", " [{\"name\": \"weather\", \"arguments\": {"),
        (ToolFormat::Listed, "<|tool_call|>", "[{\"name\": \"weather\", \"arguments\": {"),
        (ToolFormat::Listed, "<tool_call>", "[{\"name\": \"weather\", \"arguments\": {"),
        (ToolFormat::Command, "<|START_ACTION|>", "[{\"tool_name\": \"weather\", \"parameters\": {"),
        (ToolFormat::Action, "Action:\n```json", "\n[{\"tool_name\": \"weather\", \"parameters\": {"),
        (ToolFormat::Nemotron, "<TOOLCALL>", "[{\"name\": \"weather\", \"arguments\": {"),
        (ToolFormat::DeepSeek, "<｜tool▁call▁begin｜>", "weather<｜tool▁sep｜>{"),
        (ToolFormat::DeepSeekFenced, "<｜tool▁call▁begin｜>", "function<｜tool▁sep｜>weather\n```json\n{"),
        (ToolFormat::Glm, "<tool_call>", "weather\n<arg_key>"),
        (ToolFormat::Coder, "<tool_call>", "\n<function=weather>\n<parameter=city"),
        (ToolFormat::FunctionGemma, "<start_function_call>", "call:weather{"),
        (ToolFormat::Gemma4, "<|tool_call>", "call:weather{"),
    ] {
        let ends = call.char_indices().map(|(at, _)| at).chain([call.len()]);
        for begun in ends.map(|end| &call[..end]) {
            let said = cut_off(&tools(format), &format!("I look.\n\n{marker}{begun}"));
            assert_eq!((said.text.as_str(), said.reasoning.as_str()), ("I look.", ""), "{format:?} {begun:?}");
            for (name, arguments) in said.calls {
                assert_eq!(name, "weather");
                assert!(serde_json::from_str::<Value>(&arguments).is_ok(), "{format:?} {begun:?}: {arguments}");
            }
        }
    }
}

#[test]
fn what_no_marker_says_to_be_a_call_is_shown_as_far_as_it_came() {
    for (format, text) in [
        (ToolFormat::Hermes, "Use <tool_ca"),
        (ToolFormat::Hermes, "{\"name\": \"Ada"),
        (ToolFormat::Llama3, "{\"name\": \"Ada"),
        (ToolFormat::Llama3, "{\"name\": \"weather\", \"param"),
        (ToolFormat::Listed, "functools"),
        (ToolFormat::Glm4, "weather"),
        (ToolFormat::Gemma4, "a <|tool"),
    ] {
        let said = cut_off(&tools(format), text);
        assert_eq!((said.text.as_str(), said.calls.len()), (text, 0), "{format:?}");
    }
    let code = cut_off(&tools(ToolFormat::Llama3), "<|python_tag|>print(1");
    assert_eq!(code.text, "print(1", "it calls nothing that there is");
}

#[test]
fn calls_before_the_one_that_is_cut_off_stay() {
    let one = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n";
    let said = cut_off(&tools(ToolFormat::Hermes), &format!("{one}<tool_call>\n{{\"name"));
    assert_eq!((said.text.as_str(), said.calls), ("", vec![("now".to_string(), "{}".to_string())]));
}

#[test]
fn a_tag_that_was_closing_the_reasoning_is_no_part_of_it() {
    let options = OutputOptions { reasoning: Some(THINK), ..OutputOptions::default() };
    let said = |end: End| gather_to(end, &options, &["<think>Hm.\n</th"]).reasoning;
    assert_eq!(said(End::Closing), "Hm.");
    assert_eq!(said(End::Cut), "Hm.\n</th", "a model may write so");
}
