//! What becomes of whole answers, whichever way they are cut.

mod agreement;
mod cut;
mod families;
mod reasoning;

use protocol::generation::ToolCallDelta;
use serde_json::Value;

use super::*;

const THINK: ReasoningTags = ReasoningTags { open: "<think>", close: "</think>", place: Place::Start };

/// All of an answer: text, reasoning, calls as (name, arguments), and the stop string.
#[derive(Debug, PartialEq)]
struct Whole {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    ids: Vec<String>,
    stopped: Option<String>,
}

fn gather(options: &OutputOptions, cuts: &[&str]) -> Whole {
    gather_to(End::Whole, options, cuts)
}

fn gather_to(end: End, options: &OutputOptions, cuts: &[&str]) -> Whole {
    let mut output = Output::new(options.clone());
    let mut pieces: Vec<Piece> = cuts.iter().map(|cut| output.push(cut)).collect();
    pieces.push(output.finish(end));
    let mut whole =
        Whole { text: String::new(), reasoning: String::new(), calls: Vec::new(), ids: Vec::new(), stopped: None };
    for piece in pieces {
        assert!(whole.stopped.is_none() || piece == Piece::default(), "nothing follows a stop: {piece:?}");
        whole.text += &piece.text;
        whole.reasoning += &piece.reasoning;
        whole.stopped = whole.stopped.or(piece.stopped);
        for ToolCallDelta { index, id, name, arguments } in piece.tool_calls {
            if let (Some(id), Some(name)) = (id, name) {
                assert_eq!(usize::from(index), whole.calls.len(), "calls begin in order");
                whole.ids.push(id);
                whole.calls.push((name, String::new()));
            }
            whole.calls[usize::from(index)].1 += &arguments;
        }
    }
    whole
}

/// Cuts a text at random characters, the same way for the same seed.
fn cut(text: &str, mut seed: u64) -> Vec<&str> {
    let mut cuts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let letters = (seed >> 33) as usize % 9;
        let end = rest.char_indices().nth(letters).map_or(rest.len(), |(at, _)| at);
        cuts.push(&rest[..end]);
        rest = &rest[end..];
    }
    cuts
}

/// Checks an answer as a whole, letter by letter, and cut at random.
#[track_caller]
fn check(options: &OutputOptions, text: &str, expected: (&str, &str, &[(&str, &str)], Option<&str>)) {
    let whole = gather(options, &[text]);
    let calls: Vec<_> = whole.calls.iter().map(|(name, arguments)| (name.as_str(), arguments.as_str())).collect();
    let found = (whole.text.as_str(), whole.reasoning.as_str(), calls.as_slice(), whole.stopped.as_deref());
    assert_eq!(found, expected, "for {text:?}");
    check_cuts(options, text);
}

#[track_caller]
fn check_cuts(options: &OutputOptions, text: &str) {
    let whole = gather(options, &[text]);
    let letters: Vec<String> = text.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(gather(options, &letters), whole, "letter by letter: {text:?}");
    for seed in 0..20 {
        assert_eq!(gather(options, &cut(text, seed)), whole, "cut by seed {seed}: {text:?}");
    }
}

fn stops(strings: &[&str]) -> OutputOptions {
    OutputOptions { stop_strings: strings.iter().map(|it| it.to_string()).collect(), ..OutputOptions::default() }
}

/// Calls in a format, of functions about which nothing but their names is known.
fn tools(format: ToolFormat) -> OutputOptions {
    let functions = Functions::of(["f", "g", "g-2", "now", "weather"].map(|name| (name, &Value::Null)));
    OutputOptions { tools: Some(format), functions, ..OutputOptions::default() }
}

#[test]
fn text_without_options_passes_through() {
    check(
        &OutputOptions::default(),
        " <think>héllo</think> {\"a\"} ",
        (" <think>héllo</think> {\"a\"} ", "", &[], None),
    );
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    check(&stops(&["END"]), "one END two", ("one ", "", &[], Some("END")));
    check(&stops(&["\n\n", "###"]), "a\n##b\n\nc", ("a\n##b", "", &[], Some("\n\n")));
    check(&stops(&["né", "日本"]), "voilà 日 né", ("voilà 日 ", "", &[], Some("né")));
    check(&stops(&["", "x"]), "abc", ("abc", "", &[], None));
    check(&stops(&["aab"]), "aaab", ("a", "", &[], Some("aab")));
    check(&stops(&["abcd", "bc"]), "xabcd", ("xa", "", &[], Some("bc")));
    check(&stops(&["b", "ab"]), "xab", ("x", "", &[], Some("ab")));
}

#[test]
fn an_unfinished_stop_string_comes_out_at_the_end() {
    check(&stops(&["END"]), "one EN", ("one EN", "", &[], None));
}

#[test]
fn exactly_the_end_that_may_become_a_stop_string_is_held_back() {
    let mut output = Output::new(stops(&["ababc"]));
    assert_eq!(output.push("xaba").text, "x");
    assert_eq!(output.push("ba").text, "ab");
    assert_eq!(output.push("d").text, "abad");
    assert_eq!(output.push("free").text, "free");
}

#[test]
fn stop_strings_are_not_looked_for_in_reasoning_and_calls() {
    let options = OutputOptions { reasoning: Some(THINK), ..stops(&["\n\n", "stop"]) };
    check(&options, "<think>a\n\nstop</think>go stop on", ("go ", "a\n\nstop", &[], Some("stop")));
    let options = OutputOptions { tools: Some(ToolFormat::Hermes), ..stops(&["stop"]) };
    let call = "<tool_call>\n{\"name\": \"stop\", \"arguments\": {\"a\": \"stop\"}}\n</tool_call>";
    check(&options, call, ("", "", &[("stop", "{\"a\": \"stop\"}")], None));
    check(&options, &format!("sto{call}stop"), ("sto", "", &[("stop", "{\"a\": \"stop\"}")], Some("stop")));
}

#[test]
fn formats_are_detected_from_the_template() {
    assert_eq!(ToolFormat::detect("within <tool_call></tool_call> tags"), Some(ToolFormat::Hermes));
    assert_eq!(ToolFormat::detect("'[TOOL_CALLS]' + x"), Some(ToolFormat::MistralList));
    assert_eq!(ToolFormat::detect("'[TOOL_CALLS]' + x + '[ARGS]'"), Some(ToolFormat::Mistral));
    assert_eq!(ToolFormat::detect("<|python_tag|>"), Some(ToolFormat::Llama3));
    assert_eq!(ToolFormat::detect("<tool_call>\n<function=name>"), Some(ToolFormat::Coder));
    assert_eq!(ToolFormat::detect("<tool_call>name\n<arg_key>"), Some(ToolFormat::Glm));
    assert_eq!(ToolFormat::detect("<|tool_call>call:"), Some(ToolFormat::Gemma4));
    assert_eq!(ToolFormat::detect("<start_function_call>call:"), Some(ToolFormat::FunctionGemma));
    assert_eq!(ToolFormat::detect("<｜tool▁sep｜>' + x"), Some(ToolFormat::DeepSeek));
    assert_eq!(ToolFormat::detect("<｜tool▁sep｜>' + x + '```json"), Some(ToolFormat::DeepSeekFenced));
    assert_eq!(ToolFormat::detect("<|START_ACTION|>["), Some(ToolFormat::Command));
    assert_eq!(ToolFormat::detect("<|tool_call|> followed by a JSON list"), Some(ToolFormat::Listed));
    assert_eq!(ToolFormat::detect("<|tool|>{{ tools }}<|/tool|>"), Some(ToolFormat::Listed));
    assert_eq!(ToolFormat::detect("<TOOLCALL>[…]</TOOLCALL>"), Some(ToolFormat::Nemotron));
    assert_eq!(ToolFormat::detect("'Action:' … \"tool_name\""), Some(ToolFormat::Action));
    assert_eq!(ToolFormat::detect("'<|assistant|>' + m.metadata … '<|observation|>'"), Some(ToolFormat::Glm4));
    assert_eq!(ToolFormat::detect("{{ messages }}"), None);
}

#[test]
fn hermes_calls_are_read() {
    let options = tools(ToolFormat::Hermes);
    let one =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": [1, 2.5]}}\n</tool_call>";
    check(&options, one, ("", "", &[("weather", "{\"city\": \"Köln\", \"days\": [1, 2.5]}")], None));
    let two = format!("I look.\n\n{one}\n<tool_call>{{\"arguments\": {{}}, \"name\": \"now\"}}</tool_call>\n");
    let calls = [("weather", "{\"city\": \"Köln\", \"days\": [1, 2.5]}"), ("now", "{}")];
    check(&options, &two, ("I look.", "", &calls, None));
    check(&options, "<tool_call>{\"name\": \"now\"}", ("", "", &[("now", "{}")], None));
    check(&options, "<tool_call>{\"name\":\"a\",\"arguments\":null}</tool_call>ok", ("ok", "", &[("a", "{}")], None));
    let text = "<tool_call>{\"name\":\"a\",\"arguments\":\"{\\\"b\\\":1}\"}</tool_call>";
    check(&options, text, ("", "", &[("a", "{\"b\":1}")], None));
    check(&options, "a <tool b\n", ("a <tool b\n", "", &[], None));
}

#[test]
fn a_malformed_call_is_given_back_as_text() {
    let options = tools(ToolFormat::Hermes);
    for text in [
        "<tool_call>hello</tool_call>",
        "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"other\": 1}</tool_call>",
        "<tool_call>{name: f}</tool_call>",
        "<tool_call>{\"name\": \"f\"",
        "<tool_call><tool_cal",
    ] {
        check(&options, text, (text, "", &[], None));
    }
    let text = "<tool_call><tool_call>{\"name\": \"f\"}</tool_call>";
    check(&options, text, ("<tool_call>", "", &[("f", "{}")], None));
}

#[test]
fn arguments_that_break_off_are_closed() {
    let options = tools(ToolFormat::Hermes);
    let call = |arguments: &str| format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}");
    check(&options, &call("{\"a\": \"b"), ("", "", &[("f", "{\"a\": \"b\"}")], None));
    check(&options, &call("{\"a\": tru"), ("", "", &[("f", "{}")], None));
    check(&options, &call("{\"a\": [1, {\"b"), ("", "", &[("f", "{\"a\": [1, {}]}")], None));
    check(&options, &call("{\"a\": 1,}}</tool_call>!"), ("!", "", &[("f", "{\"a\": 1}")], None));
    check(&options, &call("{\"a\": 1 oops}}</tool_call>!"), ("!", "", &[("f", "{\"a\": 1}")], None));
    check(&options, &call("{\"a\": 1}}}}</tool_call>!"), ("!", "", &[("f", "{\"a\": 1}")], None));
    check(&options, &call("{\"a\": 1}</tool_call>!"), ("!", "", &[("f", "{\"a\": 1}")], None));
}

#[test]
fn slips_inside_of_strings_are_mended() {
    let options = tools(ToolFormat::Hermes);
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x\ny\\d\\'\\ud83d\\ude00\\u00e9\"}}</tool_call>";
    let whole = gather(&options, &[text]);
    let arguments: Value = serde_json::from_str(&whole.calls[0].1).expect("arguments are JSON");
    assert_eq!(arguments["a"], "x\ny\\d'😀é");
    check_cuts(&options, text);
}

#[test]
fn words_of_python_and_halves_of_letters_cut_no_arguments_off() {
    let options = tools(ToolFormat::Hermes);
    let call = |arguments: &str| format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>");
    let python = call("{\"a\": True, \"b\": [None,False], \"c\": 1}");
    check(&options, &python, ("", "", &[("f", "{\"a\": true, \"b\": [null,false], \"c\": 1}")], None));
    for (half, meant) in [
        (r"\ud83d", r"\ufffd"),
        (r"\ude00!", r"\ufffd!"),
        (r"\ud83d\n", r"\ufffd\n"),
        (r"\ud83d\u0041", r"\ufffd\u0041"),
        (r"\ud83d\ud83d\ude00", r"\ufffd\ud83d\ude00"),
    ] {
        let meant = format!("{{\"{meant}\": \"x{meant}\", \"c\": 1}}");
        check(&options, &call(&format!("{{\"{half}\": \"x{half}\", \"c\": 1}}")), ("", "", &[("f", &meant)], None));
    }
    check(&options, &call("{\"a\": 1, \"b\": Nonsense}"), ("", "", &[("f", "{\"a\": 1}")], None));
}

#[test]
fn a_form_feed_between_the_parts_of_arguments_is_left_out() {
    let options = tools(ToolFormat::Hermes);
    let text =
        "<tool_call>\u{c}{\"name\":\u{c}\"f\", \"arguments\": {\u{c}\"a\":\u{c}[1\u{c},\u{c}2]\u{c}}\u{c}}</tool_call>";
    check(&options, text, ("", "", &[("f", "{\"a\":[1,2]}")], None));
}

#[test]
fn llama_calls_are_read_at_the_beginning_only() {
    let options = tools(ToolFormat::Llama3);
    let call = "{\"name\": \"f\", \"parameters\": {\"a\": 1}}";
    check(&options, call, ("", "", &[("f", "{\"a\": 1}")], None));
    check(&options, &format!("<|python_tag|>{call}"), ("", "", &[("f", "{\"a\": 1}")], None));
    let twice = [("f", "{\"a\": 1}"), ("f", "{\"a\": 1}")];
    check(&options, &format!("\n{call}; {call}"), ("", "", &twice, None));
    check(&options, &format!("{call}\n<|python_tag|>{call}"), ("", "", &twice, None));
    check(&options, &format!("See: {call}"), (&format!("See: {call}"), "", &[], None));
    check(&options, "{\"answer\": 42}", ("{\"answer\": 42}", "", &[], None));
    check(&options, "<|python_tag|>print(1)", ("print(1)", "", &[], None));
    check(&options, "<|<|python_tag|>{", ("<|{", "", &[], None));
    check(&options, "<b>; bold", ("<b>; bold", "", &[], None));
    check(&options, "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", ("", "", &[("f", "{}")], None));
}

#[test]
fn after_llamas_tag_functions_are_called_by_name_and_code_is_run() {
    let names = |names: &[&str]| {
        let functions = Functions::of(names.iter().map(|name| (*name, &Value::Null)));
        OutputOptions { functions, ..tools(ToolFormat::Llama3) }
    };
    let options = names(&["brave_search"]);
    let search = "<|python_tag|>brave_search.call(query=\"rust (1.90)\", count = 3)";
    check(&options, search, ("", "", &[("brave_search", "{\"query\":\"rust (1.90)\",\"count\":3}")], None));
    check(&options, "<|python_tag|>brave_search.call()", ("", "", &[("brave_search", "{}")], None));
    for text in ["print(1)", "other.call(a=1)", "brave_search.call(a=", "brave_search.call(1)", "brave_search"] {
        check(&options, &format!("<|python_tag|>{text}"), (text, "", &[], None));
    }
    for name in ["python", "code_interpreter"] {
        let options = names(&["brave_search", name]);
        for (code, quoted) in [
            ("print(\"é\")\nx.call(", "print(\\\"é\\\")\\nx.call("),
            ("x", "x"),
            ("brave_search.call(a=", "brave_search.call(a="),
        ] {
            let arguments = format!("{{\"code\": \"{quoted}\"}}");
            check(&options, &format!("<|python_tag|>{code}"), ("", "", &[(name, &arguments)], None));
        }
    }
}

#[test]
fn without_a_marker_only_what_names_a_known_function_is_a_call() {
    let options = tools(ToolFormat::Llama3);
    for text in [
        "{\"name\": \"Alice\"}",
        "{\"name\":\"Ada\",\"type\":\"user\",\"id\":7}",
        "{\"name\": \"f\"}",
        "{\"name\": \"Ada\", \"parameters\": {}}",
        "{\"parameters\": {}, \"name\": \"Ada\"}",
    ] {
        check(&options, text, (text, "", &[], None));
    }
    let other = "<|python_tag|>{\"name\": \"other\", \"parameters\": {}}";
    check(&options, other, ("", "", &[("other", "{}")], None));
    let prose = "Wrap it in `<function=NAME>` and `</function>`, please.";
    check(&tools(ToolFormat::Coder), prose, (prose, "", &[], None));
    let glm = "Between <tool_call>some words</tool_call> it stands.";
    check(&tools(ToolFormat::Glm), glm, (glm, "", &[], None));
    let unknown = "<tool_call>other\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>";
    check(&tools(ToolFormat::Glm), unknown, ("", "", &[("other", "{\"a\": 1}")], None));
}

#[test]
fn mistral_calls_are_read_in_both_forms() {
    let options = tools(ToolFormat::Mistral);
    let array = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {}, \"id\": \"x\"}]";
    check(&options, array, ("", "", &[("f", "{\"a\": 1}"), ("g", "{}")], None));
    let named = "Hm. [TOOL_CALLS]f[ARGS]{\"a\": \"]\"}[TOOL_CALLS]g-2[CALL_ID]abc123xyz[ARGS]{}";
    check(&options, named, ("Hm.", "", &[("f", "{\"a\": \"]\"}"), ("g-2", "{}")], None));
    check(&options, "[TOOL_CALLS]f{\"a\": 1}", ("", "", &[("f", "{\"a\": 1}")], None));
    check(&options, "[TOOL_CALLS] I would, but no", ("I would, but no", "", &[], None));
    check(&options, "[TOOL_CALLS][5]", ("5]", "", &[], None));
    check(&options, "[TOOL_CALLS]f[ARGS]{\"a", ("", "", &[("f", "{}")], None));
}

#[test]
fn ids_depend_on_seed_and_index_only() {
    let text = "<tool_call>{\"name\": \"f\"}</tool_call><tool_call>{\"name\": \"f\"}</tool_call>";
    let ids = |seed| gather(&OutputOptions { call_id_seed: seed, ..tools(ToolFormat::Hermes) }, &[text]).ids;
    let (first, again, other) = (ids(7), ids(7), ids(8));
    assert_eq!(first, again);
    assert!(first[0] != first[1] && first[0] != other[0] && first[1] != other[0]);
    for id in first.iter().chain(&other) {
        let letters = id.strip_prefix("call_").expect("the prefix is there");
        assert!(letters.len() == 24 && letters.bytes().all(|it| it.is_ascii_alphanumeric()), "{id}");
    }
}

#[test]
fn arguments_stream_before_the_call_is_complete() {
    let mut output = Output::new(tools(ToolFormat::Hermes));
    let first = output.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"text\": \"Once upon").tool_calls;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].name.as_deref(), Some("f"));
    assert_eq!(first[0].arguments, "{\"text\": \"Once upon");
    let more = output.push(" a time").tool_calls;
    assert_eq!((more[0].index, more[0].id.as_ref(), more[0].arguments.as_str()), (0, None, " a time"));
}

#[test]
fn wherever_an_answer_is_cut_off_its_arguments_are_json() {
    let arguments = r#"{"a": [1, -2.5e3, {"b": null}], "c\n": "x\"\u00e9\ud83d\ude00", "d": {}, "e": true }"#;
    for (format, text) in [
        (ToolFormat::Hermes, format!("hi <tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>")),
        (ToolFormat::Llama3, format!("{{\"name\": \"f\", \"parameters\": {arguments}}}")),
        (ToolFormat::Mistral, format!("[TOOL_CALLS]f[ARGS]{arguments}")),
        (ToolFormat::Mistral, format!("[TOOL_CALLS][{{\"name\": \"f\", \"arguments\": {arguments}}}]")),
    ] {
        for (end, _) in text.char_indices() {
            let whole = gather(&tools(format), &[&text[..end]]);
            for (_, arguments) in &whole.calls {
                let parsed: Result<Value, _> = serde_json::from_str(arguments);
                assert!(parsed.is_ok_and(|it| it.is_object()), "{arguments:?} after {:?}", &text[..end]);
            }
        }
    }
}

/// What the texts below are put together from.
const WORDS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|python_tag|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<function=f>",
    "<parameter=a>",
    "</parameter>",
    "</function>",
    "<|tool_call>",
    "call:f{",
    "<|\"|>",
    "<tool_call|>",
    "<|START_ACTION|>",
    "{",
    "}",
    "[",
    "]",
    "\"name\"",
    ": ",
    "\"f\"",
    "\"arguments\"",
    ",",
    "{\"name\": \"f\", \"arguments\": {",
    "\"a\": 1",
    "\\u12",
    "\\",
    "\"",
    " ",
    "\n",
    "stop",
    "sto",
    "é",
    "<",
    ";",
    "1.5",
    "tru",
    "a:",
    "f.call(a=",
    "f\n",
    "functools",
    "<|/tool_call|>",
    ")",
];

#[test]
fn no_text_of_markers_and_json_depends_on_its_cuts_or_breaks_json() {
    let formats = [
        None,
        Some(ToolFormat::Hermes),
        Some(ToolFormat::Llama3),
        Some(ToolFormat::Mistral),
        Some(ToolFormat::DeepSeek),
        Some(ToolFormat::Glm),
        Some(ToolFormat::Coder),
        Some(ToolFormat::Gemma4),
        Some(ToolFormat::Command),
        Some(ToolFormat::Listed),
        Some(ToolFormat::Glm4),
    ];
    let mut state = 1u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % bound
    };
    for _ in 0..6000 {
        let text: String = (0..next(14)).map(|_| WORDS[next(WORDS.len())]).collect();
        let options = OutputOptions {
            stop_strings: vec!["stop".to_string()],
            reasoning: [None, Some(Place::Start), Some(Place::Opened), Some(Place::Inside)][next(4)]
                .map(|place| ReasoningTags { place, ..THINK }),
            tools: formats[next(formats.len())],
            functions: Functions::of([("f", &serde_json::json!({ "properties": { "a": { "type": "string" } } }))]),
            harmony: false,
            call_id_seed: 3,
            ..OutputOptions::default()
        };
        let whole = gather(&options, &[&text]);
        assert_eq!(gather(&options, &cut(&text, next(1000) as u64)), whole, "{text:?} with {options:?}");
        for (_, arguments) in &whole.calls {
            assert!(serde_json::from_str::<Value>(arguments).is_ok(), "{arguments:?} from {text:?}");
        }
    }
}
