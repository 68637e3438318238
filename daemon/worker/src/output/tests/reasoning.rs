//! What is reasoning and what is an answer, whichever way they are cut.

use super::*;

#[test]
fn reasoning_is_split_from_the_answer() {
    let options = OutputOptions { reasoning: Some(THINK), ..OutputOptions::default() };
    check(&options, "<think>\nWhy?\n\nSo.\n</think>\n\nBecause.\n", ("Because.\n", "Why?\n\nSo.", &[], None));
    check(&options, "\n<think></think>Yes", ("Yes", "", &[], None));
    check(&options, " No <think>tags</think>", (" No <think>tags</think>", "", &[], None));
    check(&options, "<thin", ("<thin", "", &[], None));
    check(&options, "<think>cut off </thi", ("", "cut off </thi", &[], None));
    check(&options, "<think>a</think>b</think>c", ("b</think>c", "a", &[], None));
}

#[test]
fn reasoning_that_the_prompt_opened_needs_no_tag() {
    let options =
        OutputOptions { reasoning: Some(ReasoningTags { place: Place::Opened, ..THINK }), ..OutputOptions::default() };
    check(&options, "Hm.\n</think>\n\nYes.", ("Yes.", "Hm.", &[], None));
    check(&options, "never closed", ("", "never closed", &[], None));
}

#[test]
fn reasoning_that_is_opened_again_shows_no_tag() {
    let start = OutputOptions { reasoning: Some(THINK), ..OutputOptions::default() };
    let opened =
        OutputOptions { reasoning: Some(ReasoningTags { place: Place::Opened, ..THINK }), ..OutputOptions::default() };
    for options in [&start, &opened] {
        check(options, "<think>\n<think>\nHm</think>Yes", ("Yes", "Hm", &[], None));
        check(options, "<think></think>\n<think>Hm</think>Yes", ("Yes", "Hm", &[], None));
        check(options, "<think>a</think>\n\n<think>\nb</think>\nYes", ("Yes", "a\n\nb", &[], None));
        check(options, "<think>a</think> <thin", ("<thin", "a", &[], None));
        check(options, "<think>a</think>Yes <think>b</think>", ("Yes <think>b</think>", "a", &[], None));
        check(options, "<think>use <think> here</think>Yes", ("Yes", "use <think> here", &[], None));
    }
}

#[test]
fn an_answer_that_goes_on_is_split_where_its_beginning_leaves_it() {
    let after = |begun: &str| THINK.after(begun).map(|it| it.place);
    assert_eq!([after(""), after(" \n")], [Some(Place::Start); 2]);
    assert_eq!([after("<think>"), after("So <think>\n")], [Some(Place::Opened); 2]);
    assert_eq!([after("<think>Hm"), after("<think>a</think>b<think>c")], [Some(Place::Inside); 2]);
    assert_eq!([after("It"), after("<think>Hm</think>"), after("<think></think>It")], [None; 3]);
    let inside = ReasoningTags { place: Place::Inside, ..THINK };
    let options = OutputOptions { reasoning: Some(inside), ..OutputOptions::default() };
    check(&options, " and so\n</think>\nYes.", ("Yes.", " and so", &[], None));
}

#[test]
fn tags_are_detected_from_template_and_prompt() {
    let tags = |template, prompt| ReasoningTags::detect(template, prompt).map(|it| (it.open, it.place));
    assert_eq!(tags("{{ content.split('</think>') }}", "<|im_start|>assistant\n"), Some(("<think>", Place::Start)));
    assert_eq!(tags("… '<think>\\n' … </think>", "<|Assistant|><think>\n"), Some(("<think>", Place::Opened)));
    assert_eq!(tags("… </think>", "assistant\n<think>\n\n</think>\n\n"), Some(("<think>", Place::Start)));
    assert_eq!(tags("[THINK]{{ x }}[/THINK]", "[/INST]"), Some(("[THINK]", Place::Start)));
    assert_eq!(tags("{{ messages }}", "<think>"), None);
}

#[test]
fn granite_says_in_words_where_its_thoughts_end() {
    let template =
        "Write your thoughts after 'Here is my thought process:' and your response after 'Here is my response:'";
    let tags = ReasoningTags::detect(template, "<|end_of_role|>").unwrap();
    let options = OutputOptions { reasoning: Some(tags), ..tools(ToolFormat::Listed) };
    for is in ["Here is", "Here's"] {
        let said = format!("{is} my thought process:\nHm, Here is my plan.\n\n{is} my response:\nYes.");
        check(&options, &said, ("Yes.", "Hm, Here is my plan.", &[], None));
    }
    let call = "Here is my thought process: f. Here is my response: <|tool_call|>[{\"name\": \"f\"}]";
    check(&options, call, ("", "f.", &[("f", "{}")], None));
    check(&options, "Here is my response", ("Here is my response", "", &[], None));
    let mut output = Output::new(options);
    assert_eq!(output.push("Here is my thought process: Hm. Here").reasoning, "Hm.");
    assert_eq!(output.push(" it is").reasoning, " Here it is");
}

#[test]
fn tags_that_a_prompt_asks_for_around_the_answer_are_no_part_of_it() {
    assert!(is_wrapped("… write your response between <response></response> for each user query."));
    assert!(!is_wrapped("Answer in XML: <response>…</response>"));
    let options = OutputOptions { reasoning: Some(THINK), wrapped: true, ..tools(ToolFormat::Listed) };
    let said = "<think>Hm.</think>\n<response>\nIt is <b>.\n\nSo.\n</response>\n";
    check(&options, said, ("It is <b>.\n\nSo.", "Hm.", &[], None));
    check(&options, "<response>Yes", ("Yes", "", &[], None));
    check(&options, "<response></response>", ("", "", &[], None));
    check(&options, "<response>a </respon", ("a </respon", "", &[], None));
    check(&options, "<response>a</response>\nb", ("a\nb", "", &[], None));
    check(&options, "Say <response>a</response>", ("Say <response>a</response>", "", &[], None));
    check(&options, "<respond>", ("<respond>", "", &[], None));
    let call = "<think>f</think><response><|tool_call|>[{\"name\": \"f\"}]</response>";
    check(&options, call, ("", "f", &[("f", "{}")], None));
    let mut output = Output::new(options);
    let mut told = |text: &str| output.push(text).text;
    assert_eq!([told("<resp"), told("onse>Y"), told("es. </"), told("i> </resp")], ["", "Y", "es.", " </i>"]);
}

#[test]
fn reasoning_comes_before_calls_and_hides_markers() {
    let options = OutputOptions { reasoning: Some(THINK), ..tools(ToolFormat::Hermes) };
    let text = "<think>use <tool_call>?</think>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    check(&options, text, ("", "use <tool_call>?", &[("f", "{}")], None));
}

#[test]
fn a_whole_call_at_the_end_of_thoughts_that_nothing_closes_is_a_call() {
    let opened = Some(ReasoningTags { place: Place::Opened, ..THINK });
    for (format, call) in [
        (ToolFormat::Coder, "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"),
        (ToolFormat::Hermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
        (ToolFormat::Glm, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"),
    ] {
        let options = OutputOptions { reasoning: opened, ..tools(format) };
        let once = [("f", "{\"a\": 1}")];
        check(&options, &format!("I should read it.\n{call}\n"), ("", "I should read it.", &once, None));
        check(&options, &format!("\n{call}\n{call}"), ("", "", &[once[0], once[0]], None));
        let thought = format!("First {call}, or not?");
        check(&options, &format!("\n{thought}"), ("", &thought, &[], None));
        check(&options, &format!("{thought}</think>{call}"), ("", &thought, &once, None));
        check(&options, &format!("{call}\n</think>\nYes."), ("Yes.", call, &[], None));
        let cut = &call[..call.len() - 5];
        check(&options, cut, ("", cut, &[], None));
    }
    let mut output = Output::new(OutputOptions { reasoning: opened, ..tools(ToolFormat::Coder) });
    assert_eq!(output.push("use <tool_call> and so").reasoning, "use <tool_call> and so");
}
