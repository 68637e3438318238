//! Calls and reasoning of the families that do not write JSON between tags, whichever way their answers are cut.

use serde_json::json;

use super::*;

/// A function that has an argument of this schema, and one of which only the name is known.
fn functions(function: &str, argument: &str, schema: Value) -> Functions {
    Functions::of([(function, &json!({ "properties": { argument: schema } })), ("g", &Value::Null)])
}

#[test]
fn deepseek_calls_are_read_in_both_forms() {
    let options = tools(ToolFormat::DeepSeek);
    let new = "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>\
        <｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(&options, new, ("Let me see.", "", &[("f", "{\"a\": 1}"), ("g", "{}")], None));
    let old = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"`\"}\n```<｜tool▁call▁end｜>\n\
        <｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(&tools(ToolFormat::DeepSeekFenced), old, ("", "", &[("f", "{\"a\": \"`\"}"), ("g", "{}")], None));
    check(&options, "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": [1", ("", "", &[("f", "{\"a\": []}")], None));
    check(&options, "<｜tool▁call▁begin｜>f<｜tool▁sep｜>oops", ("foops", "", &[], None));
    check(&options, "<｜tool▁call▁begin｜>f", ("f", "", &[], None));
    check(&options, "plain < text", ("plain < text", "", &[], None));
}

#[test]
fn glm_calls_take_their_types_from_the_schema() {
    let options = OutputOptions {
        functions: functions("f", "zip", json!({ "type": ["string", "null"] })),
        ..tools(ToolFormat::Glm)
    };
    let call = "<tool_call>f\n<arg_key>zip</arg_key>\n<arg_value>01234</arg_value>\n<arg_key>days</arg_key>\n\
        <arg_value>[1, 2]</arg_value>\n<arg_key>note</arg_key>\n<arg_value>a \"b\"\nc</arg_value>\n</tool_call>";
    let arguments = "{\"zip\": \"01234\", \"days\": [1,2], \"note\": \"a \\\"b\\\"\\nc\"}";
    check(
        &options,
        &format!("Hm.\n{call}\n<tool_call>g</tool_call>"),
        ("Hm.", "", &[("f", arguments), ("g", "{}")], None),
    );
    check(&options, "<tool_call>f\n<arg_key>a</arg_key><arg_value>1</arg", ("", "", &[("f", "{}")], None));
    check(&options, "<tool_call>{\"name\": 1}", ("<tool_call>{\"name\": 1}", "", &[], None));
    check(&options, "<tool_call></tool_call>!", ("<tool_call></tool_call>!", "", &[], None));
}

#[test]
fn coder_calls_are_read_with_their_lines() {
    let options =
        OutputOptions { functions: functions("f", "code", json!({ "type": "string" })), ..tools(ToolFormat::Coder) };
    let call = "<tool_call>\n<function=f>\n<parameter=code>\nlet a = 1;\n\nlet b;\n</parameter>\n<parameter=n>\n5\n</parameter>\n</function>\n</tool_call>";
    let arguments = "{\"code\": \"let a = 1;\\n\\nlet b;\", \"n\": 5}";
    check(&options, &format!("So:\n\n{call}"), ("So:", "", &[("f", arguments)], None));
    check(&options, &format!("{call}\n{call}ok"), ("ok", "", &[("f", arguments), ("f", arguments)], None));
    check(&options, "<tool_call>\nno call</tool_call>", ("<tool_call>\nno call</tool_call>", "", &[], None));
    check(&options, "<function=f>\n<parameter=n>\n5\n</parameter>", ("", "", &[("f", "{\"n\": 5}")], None));
    let options = OutputOptions { functions: functions("f", "ok", json!({ "type": "boolean" })), ..options };
    check(&options, "<function=f>\n<parameter=ok>\nTrue\n</parameter>", ("", "", &[("f", "{\"ok\": true}")], None));
}

#[test]
fn tags_that_coder_models_leave_out_merge_no_arguments_and_no_calls() {
    let schema = json!({ "properties": { "city": { "type": "string" }, "state": { "type": "string" }, "b": {} } });
    let known = Functions::of([("f", &schema), ("g", &schema)]);
    let options = OutputOptions { functions: known, ..tools(ToolFormat::Coder) };
    let both = "{\"city\": \"Dallas\", \"state\": \"TX\"}";
    let no_ends =
        "<tool_call>\n<function=f>\n<parameter=city>\nDallas\n<parameter=state>\nTX\n</function>\n</tool_call>";
    check(&options, no_ends, ("", "", &[("f", both)], None));
    let only_last = "<function=f>\n<parameter=city>\nDallas\n<parameter=state>\nTX\n</parameter>\n</function>";
    check(&options, only_last, ("", "", &[("f", both)], None));
    let cut = "<function=f>\n<parameter=city>\nDallas\n<parameter=st";
    check(&options, cut, ("", "", &[("f", "{\"city\": \"Dallas\"}")], None));
    let city = "{\"city\": \"Dallas\"}";
    for end in ["\n", "\n</function>", "\n</tool_call>", "\n</function>\n</tool_call>"] {
        check(&options, &format!("<function=f>\n<parameter=city>\nDallas{end}"), ("", "", &[("f", city)], None));
    }
    let two = [("f", city), ("g", "{\"b\": 1}")];
    let second = "<tool_call>\n<function=g>\n<parameter=b>\n1\n</parameter>\n</function>\n</tool_call>";
    for end in
        ["</parameter>\n</tool_call>", "</parameter>\n</function>", "</parameter>", "</tool_call>", "</function>"]
    {
        let text = format!("<tool_call>\n<function=f>\n<parameter=city>\nDallas\n{end}\n{second}");
        check(&options, &text, ("", "", &two, None));
    }
    let text = "<function=f>\n<parameter=city>\nDallas\n</parameter>\n<function=g>\n<parameter=b>\n1\n</parameter>";
    check(&options, text, ("", "", &two, None));
}

#[test]
fn what_looks_like_a_tag_inside_of_a_value_stays_in_it() {
    let schema = json!({ "properties": { "city": { "type": "string" } } });
    let options = OutputOptions { functions: Functions::of([("f", &schema)]), ..tools(ToolFormat::Coder) };
    for value in
        ["<parameter=x>", "a\n<parameter=x>\nb", "a\n<parameter=\nb", "</function>\nx", "a\n</tool_call>\n.", "\n"]
    {
        let text = format!("<function=f>\n<parameter=city>\n{value}\n</parameter>\n</function>");
        check(&options, &text, ("", "", &[("f", &json!({ "city": value }).to_string().replace("\":", "\": "))], None));
    }
}

#[test]
fn gemma_calls_become_json() {
    for (format, open, close, quote) in [
        (ToolFormat::Gemma4, "<|tool_call>", "<tool_call|>", "<|\"|>"),
        (ToolFormat::FunctionGemma, "<start_function_call>", "<end_function_call>", "<escape>"),
    ] {
        let options = tools(format);
        let call = format!(
            "{open}call:f{{city:{quote}New, \"York\"}}{quote},n:2.5,ok:true,deep:{{l:[1,{quote}x{quote}]}}}}{close}"
        );
        let arguments = "{\"city\":\"New, \\\"York\\\"}\",\"n\":2.5,\"ok\":true,\"deep\":{\"l\":[1,\"x\"]}}";
        check(
            &options,
            &format!("Hm. {call}{open}call:g{{}}{close}"),
            ("Hm.", "", &[("f", arguments), ("g", "{}")], None),
        );
        check(&options, &format!("{open}call:f{{a:{quote}cut"), ("", "", &[("f", "{\"a\":\"cut\"}")], None));
        let odd = format!("{open}no call{close}!");
        check(&options, &odd, (&odd, "", &[], None));
    }
}

#[test]
fn texts_of_arguments_are_passed_on_as_they_come() {
    let functions = functions("f", "a", json!({ "type": "string" }));
    for (format, before, after) in [
        (ToolFormat::Coder, "<tool_call>\n<function=f>\n<parameter=a>\n", "\n</parameter>\n</function>\n</tool_call>"),
        (ToolFormat::Glm, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>", "</arg_value>\n</tool_call>"),
        (ToolFormat::Gemma4, "<|tool_call>call:f{a:<|\"|>", "<|\"|>}<tool_call|>"),
    ] {
        let options = OutputOptions { functions: functions.clone(), ..tools(format) };
        let mut output = Output::new(options.clone());
        output.push(before);
        let passed: String = output.push("Once \"upon\n\na").tool_calls.into_iter().map(|it| it.arguments).collect();
        assert_eq!(passed, "Once \\\"upon\\n\\na", "{format:?}");
        let whole = gather(&options, &[&format!("{before}Once \"upon\n\na< é\n{after}")]);
        let arguments: Value = serde_json::from_str(&whole.calls[0].1).unwrap();
        assert_eq!(arguments, json!({ "a": "Once \"upon\n\na< é\n" }), "{format:?}");
        let cut = format!("{before}Once upon a{}", &after[..after.len().min(5)]);
        let arguments = &gather(&options, &[&cut]).calls[0].1;
        assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({ "a": "Once upon a" }), "{format:?}");
        check_cuts(&options, &cut);
    }
}

#[test]
fn slips_in_gemmas_calls_leave_json() {
    let options = tools(ToolFormat::Gemma4);
    for (call, arguments) in [
        ("call:f{a:1,b:[1,2],c:{}}", "{\"a\":1,\"b\":[1,2],\"c\":{}}"),
        ("call:f{a:[1}", "{\"a\":[1]}"),
        ("call:f{a:[1},b:2", "{\"a\":[1]}"),
        ("call:f{<|\"|>a b<|\"|>: x y ,}", "{\"a b\":\"x y\"}"),
        ("call:f{a:<|\"|>x<|\"|>b:1}", "{\"a\":\"x\",\"b\":1}"),
        ("call:f{a:[],b:,c}}", "{\"a\":[],\"b\":\"\"}"),
        ("call:f{a:{b:{c:<|\"|>x", "{\"a\":{\"b\":{\"c\":\"x\"}}}"),
    ] {
        check(&options, &format!("<|tool_call>{call}<tool_call|>ok"), ("ok", "", &[("f", arguments)], None));
    }
    for text in ["<|tool_call>call: {a:1}<tool_call|>", "<|tool_call>call<tool_call|>!", "<|tool_call>cal"] {
        check(&options, text, (text, "", &[], None));
    }
    let two = "<|tool_call>call:f{a:1}<|tool_call>call:g{}";
    check(&options, two, ("", "", &[("f", "{\"a\":1}"), ("g", "{}")], None));
}

#[test]
fn command_calls_are_a_list_of_actions() {
    let options = tools(ToolFormat::Command);
    let list = "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"a\": 1}},\n    \
        {\"tool_call_id\": \"1\", \"tool_name\": \"g\", \"parameters\": {}}\n]";
    check(&options, list, ("", "", &[("f", "{\"a\": 1}"), ("g", "{}")], None));
    let tags = ReasoningTags::detect("<|START_THINKING|>…<|END_THINKING|>", "<|CHATBOT_TOKEN|>").unwrap();
    let options = OutputOptions { reasoning: Some(tags), ..options };
    let thought = format!("<|START_THINKING|>I will.<|END_THINKING|>{list}");
    check(&options, &thought, ("", "I will.", &[("f", "{\"a\": 1}"), ("g", "{}")], None));
}

#[test]
fn lists_of_calls_are_read_after_every_marker_and_their_ends_are_not_shown() {
    let list = "[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {}}]";
    let calls = [("f", "{\"a\": 1}"), ("g", "{}")];
    let options = tools(ToolFormat::Listed);
    for text in [
        format!("<|tool_call|>{list}<|/tool_call|>"),
        format!("<tool_call> {list}</tool_call>\n"),
        format!("functools{list}"),
        format!("\nfunctools {list}"),
    ] {
        check(&options, &text, ("", "", &calls, None));
    }
    let one = "<|tool_call|>{\"name\": \"f\", \"arguments\": {\"a\": 1}}<|/tool_call|>";
    check(&options, one, ("", "", &calls[..1], None));
    for text in [
        "Use functools[{\"name\": \"f\"}].",
        "functools.wraps",
        "functools",
        "functools[",
        "a <tool_call> b",
        "functools[5]",
        "<tool_call>{5",
        "<tool_call>{\"name\"",
    ] {
        check(&options, text, (text, "", &[], None));
    }
    check(&options, &format!("<tool_call>{list} so"), (" so".trim_start(), "", &calls, None));
    check(&tools(ToolFormat::Nemotron), &format!("I look. <TOOLCALL>{list}</TOOLCALL>"), ("I look.", "", &calls, None));
    let actions = list.replace("name", "tool_name").replace("arguments", "parameters");
    for begin in ["Plan: look.\nAction: ```json\n", "Plan: look.\nAction:\n```json\n"] {
        let text = format!("{begin}{actions}\n```");
        check(&tools(ToolFormat::Action), &text, ("Plan: look.", "", &calls, None));
    }
    let fenced = "Action: ```json\n{\"a\": 1}\n```";
    check(&tools(ToolFormat::Action), fenced, (fenced, "", &[], None));
    let command = tools(ToolFormat::Command);
    check(&command, &format!("<|START_ACTION|>{actions}<|END_ACTION|>"), ("", "", &calls, None));
    check(&command, "<|START_RESPONSE|>Yes.<|END_RESPONSE|>", ("Yes.", "", &[], None));
}

#[test]
fn glm_4s_calls_begin_with_a_line_that_names_a_function() {
    let options = tools(ToolFormat::Glm4);
    check(&options, "f\n{\"a\": 1}", ("", "", &[("f", "{\"a\": 1}")], None));
    check(&options, "\nf \n{\"a\": 1}\ng\n{}", ("", "", &[("f", "{\"a\": 1}"), ("g", "{}")], None));
    check(&options, "f\n{\"a\": [1", ("", "", &[("f", "{\"a\": []}")], None));
    for text in ["other\n{\"a\": 1}", "f", "f\n", "f\nis {a}", "f {\"a\": 1}", "Well.\n\nf\n{}"] {
        check(&options, text, (text, "", &[], None));
    }
}

#[test]
fn glm4_text_is_told_as_soon_as_it_cannot_be_the_name_of_a_function() {
    let mut output = Output::new(tools(ToolFormat::Glm4));
    let mut told = |text: &str| output.push(text).text;
    assert_eq!([told("wea"), told("ther"), told(" "), told("is")], ["", "", "", "weather is"]);
    for (text, at_once) in [("W", "W"), ("fa", "fa"), ("f\nx", "f\nx"), ("\n#", "\n#"), ("wet", "wet")] {
        assert_eq!(Output::new(tools(ToolFormat::Glm4)).push(text).text, at_once);
    }
    let unknown = OutputOptions { functions: Functions::default(), ..tools(ToolFormat::Glm4) };
    assert_eq!(Output::new(unknown).push("f").text, "f");
}

#[test]
fn harmony_channels_become_reasoning_answer_and_calls() {
    let options = OutputOptions { harmony: true, ..OutputOptions::default() };
    let whole =
        "<|channel|>analysis<|message|>Why?\n<|end|><|start|>assistant<|channel|>final<|message|>Because.<|return|>";
    check(&options, whole, ("Because.", "Why?\n", &[], None));
    let call = "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.f \
        <|constrain|>json<|message|>{\"a\": \"<\"}<|call|>";
    check(&options, call, ("", "Hm", &[("f", "{\"a\": \"<\"}")], None));
    let preamble = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.g<|channel|>commentary\
        <|constrain|>json<|message|>{\"b";
    check(&options, preamble, ("I look.", "", &[("g", "{}")], None));
    check(&options, "<|channel|>final<|message|>stop", ("stop", "", &[], None));
    check(&options, "no header at all", ("no header at all", "", &[], None));
    let stopping = OutputOptions { stop_strings: vec!["END".to_string()], ..options.clone() };
    let stopped = "<|channel|>analysis<|message|>END<|end|><|start|>assistant<|channel|>final<|message|>a END b";
    check(&stopping, stopped, ("a ", "END", &[], Some("END")));
    let begun = OutputOptions { begun: true, ..options.clone() };
    check(&begun, " it is.<|return|>", (" it is.", "", &[], None));
    let call = " so<|end|><|start|>assistant to=functions.g<|channel|>commentary<|message|>{}<|call|>";
    check(&begun, call, (" so", "", &[("g", "{}")], None));
    let mut output = Output::new(options);
    output.push("<|channel|>analysis<|message|>hm");
    assert!(output.is_reasoning());
    output.push(HARMONY_TO_ANSWER);
    assert!(!output.is_reasoning());
}

#[test]
fn harmony_calls_that_are_empty_unprefixed_or_no_json_are_not_lost() {
    let options = OutputOptions { harmony: true, tools: None, ..tools(ToolFormat::Hermes) };
    let call = |header: &str, body: &str| format!("<|channel|>{header}<|message|>{body}<|call|>");
    let empty = call("commentary to=functions.f <|constrain|>json", "");
    check(&options, &empty, ("", "", &[("f", "{}")], None));
    check(&options, empty.trim_end_matches("<|call|>"), ("", "", &[("f", "{}")], None));
    let bare = call("commentary to=f <|constrain|>json", "{\"a\": 1}");
    check(&options, &bare, ("", "", &[("f", "{\"a\": 1}")], None));
    let thought = call("analysis to=f", "{\"a\": 1}");
    check(&options, &thought, ("", "", &[("f", "{\"a\": 1}")], None));
    check(&options, &call("analysis to=assistant", "Hm"), ("", "Hm", &[], None));
    check(&options, &call("commentary to=functions.f code", "print({1})"), ("print({1})", "", &[], None));
}

#[test]
fn gemma_reasons_in_a_channel_of_its_own() {
    let tags = ReasoningTags::detect("<|channel>thought\n…<channel|>", "<|turn>model\n").unwrap();
    let options = OutputOptions { reasoning: Some(tags), ..tools(ToolFormat::Gemma4) };
    check(&options, "<|channel>thought\nHm.\n<channel|>Yes.", ("Yes.", "Hm.", &[], None));
}

#[test]
fn wherever_an_answer_is_cut_off_its_arguments_are_json() {
    for (format, text) in [
        (ToolFormat::DeepSeek, "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": [1, {\"b\": null}]}<｜tool▁call▁end｜>"),
        (ToolFormat::Glm, "<tool_call>f<arg_key>a</arg_key><arg_value>{\"b\": 1}</arg_value></tool_call>"),
        (ToolFormat::Coder, "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"),
        (ToolFormat::Gemma4, "<|tool_call>call:f{a:<|\"|>x<|\"|>,b:[1,{c:true}]}<tool_call|>"),
        (ToolFormat::Listed, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"),
        (ToolFormat::Command, "<|START_ACTION|>[{\"tool_name\": \"f\", \"parameters\": {\"a\": 1}}]"),
        (ToolFormat::Nemotron, "<TOOLCALL>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]</TOOLCALL>"),
        (ToolFormat::Glm4, "f\n{\"a\": [1, {\"b\": null}]}"),
    ] {
        for (end, _) in text.char_indices() {
            for (_, arguments) in &gather(&tools(format), &[&text[..end]]).calls {
                let parsed: Result<Value, _> = serde_json::from_str(arguments);
                assert!(parsed.is_ok_and(|it| it.is_object()), "{arguments:?} after {:?}", &text[..end]);
            }
            check_cuts(&tools(format), &text[..end]);
        }
    }
}

#[test]
fn hermes_calls_that_are_the_whole_answer_need_no_tags() {
    let options = tools(ToolFormat::Hermes);
    let call = "{\"name\": \"weather\", \"arguments\": {\"in\": \"<}\\\"\"}}";
    let once = ("weather", "{\"in\": \"<}\\\"\"}");
    check(&options, call, ("", "", &[once], None));
    check(&options, &format!("\n{call}\n{call} "), ("", "", &[once, once], None));
    check(&options, &format!("```json\n{call}\n```\n"), ("", "", &[once], None));
    check(&options, &format!("```\n{call}"), ("", "", &[once], None));
    check(&options, "{\"arguments\": {}, \"name\": \"f\"}", ("", "", &[("f", "{}")], None));
    let reasoning = OutputOptions { reasoning: Some(THINK), ..options.clone() };
    check(&reasoning, &format!("<think>Hm</think>\n{call}"), ("", "Hm", &[once], None));
    for text in [
        format!("{call} is how it is called."),
        format!("As asked: {call}"),
        format!("```json\n{call}\n```\nThat is all."),
        format!("{call}```"),
        call[..call.len() - 1].to_string(),
        call.replace("weather", "Bern"),
        call.replace("}}", "}, \"at\": 1}"),
        "{\"name\": \"weather\"}".to_string(),
        "{\"name\": \"weather\", \"arguments\": [1]}".to_string(),
        "```python\nprint({})\n```".to_string(),
        "[1]".to_string(),
        "``".to_string(),
    ] {
        check(&options, &text, (text.trim_end(), "", &[], None));
    }
    let tagged = format!("{{}} <tool_call>{call}</tool_call>");
    check(&options, &tagged, ("{}", "", &[once], None));
    let shaped = OutputOptions { shaped: true, ..options.clone() };
    check(&shaped, call, (call, "", &[], None));
    let mut output = Output::new(options);
    let mut told = |text: &str| output.push(text).text;
    assert_eq!(
        [told("{\"name\": \"weather\", \"argu"), told("ed\": 1"), told("}")],
        ["", "{\"name\": \"weather\", \"argued\": 1", "}"]
    );
}

#[test]
fn the_golden_template_of_each_family_shows_how_it_calls_and_thinks() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/templates");
    let known = [
        ("coder", Some(ToolFormat::Coder), Some("<think>")),
        ("command", Some(ToolFormat::Command), Some("<|START_THINKING|>")),
        ("constructs", None, None),
        ("deepseek", Some(ToolFormat::DeepSeekFenced), Some("<think>")),
        ("gemma", None, None),
        ("glm", Some(ToolFormat::Glm), Some("<think>")),
        ("glm4", Some(ToolFormat::Glm4), Some("<think>")),
        ("granite", Some(ToolFormat::Listed), None),
        // Its calls and thoughts have channels, whatever the words.
        ("harmony", None, None),
        ("llama2", None, None),
        ("llama3", Some(ToolFormat::Llama3), None),
        ("mistral3", Some(ToolFormat::MistralList), None),
        ("mistral7", Some(ToolFormat::Mistral), None),
        ("nemotron", Some(ToolFormat::Nemotron), Some("<think>")),
        ("olmo2", None, None),
        ("phi", Some(ToolFormat::Listed), None),
        ("qwen2", Some(ToolFormat::Hermes), None),
        ("qwen3", Some(ToolFormat::Hermes), Some("<think>")),
        ("smollm3", Some(ToolFormat::Hermes), Some("<think>")),
    ];
    for (family, calls, thoughts) in known {
        let source = std::fs::read_to_string(format!("{folder}/{family}.jinja")).unwrap();
        assert_eq!(ToolFormat::detect(&source), calls, "{family}");
        assert_eq!(ReasoningTags::detect(&source, "").map(|tags| tags.open), thoughts, "{family}");
    }
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let templates = files.filter(|name| name.to_str().is_some_and(|name| name.ends_with(".jinja"))).count();
    assert_eq!(templates, known.len(), "a new one is listed here too");
}

#[test]
fn numbers_keep_the_digits_that_they_were_written_with() {
    let long = "123456789012345678901";
    let tagged = format!("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>{long}</arg_value>\n</tool_call>");
    check(&tools(ToolFormat::Glm), &tagged, ("", "", &[("f", "{\"a\": 123456789012345678901}")], None));
    let coder =
        format!("<tool_call>\n<function=f>\n<parameter=a>\n[{long}, 1.50]\n</parameter>\n</function>\n</tool_call>");
    check(&tools(ToolFormat::Coder), &coder, ("", "", &[("f", "{\"a\": [123456789012345678901, 1.50]}")], None));
    let quoted = format!("<|tool_call>call:f{{a:{long},b:7}}<tool_call|>");
    check(&tools(ToolFormat::Gemma4), &quoted, ("", "", &[("f", "{\"a\":123456789012345678901,\"b\":7}")], None));
}
