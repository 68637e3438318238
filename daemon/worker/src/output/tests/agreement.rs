//! What grammars of calls allow, and what the readers of the same formats make of it.

use engine::random::{Recipe, TOKENS, TempFolder};
use engine::text::{Grammar, Grammars, Special, Tokenizer};
use serde_json::json;

use super::*;

/// The token that ends a turn of a random model.
const TURN_END: u32 = TOKENS - 1;

struct Setting {
    _folder: TempFolder,
    tokenizer: Tokenizer,
    grammars: Grammars,
}

fn setting() -> Setting {
    let folder = Recipe::tiny("qwen3", 7).temporary().unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let grammars = Grammars::new(&tokenizer, &[TURN_END], TOKENS);
    Setting { _folder: folder, tokenizer, grammars }
}

impl Setting {
    fn allows(&self, grammar: &Grammar, text: &str) -> bool {
        let mut matcher = self.grammars.compile(grammar).unwrap();
        let tokens = self.tokenizer.encode(text, Special::Parse).unwrap();
        tokens.iter().all(|token| !matcher.is_over() && matcher.take(*token).is_ok())
            && (matcher.is_over() || matcher.allowed().is_ok_and(|allowed| allowed.allows(TURN_END)))
    }
}

/// By format, a call of `f` whose only argument `a` is written so.
const UNTYPED: [(ToolFormat, &str, &str); 2] = [
    (ToolFormat::Coder, "<tool_call>\n<function=f>\n<parameter=a>\n", "\n</parameter>\n</function>\n</tool_call>"),
    (ToolFormat::Glm, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>", "</arg_value>\n</tool_call>"),
];

fn function(argument: &Value) -> Value {
    json!({ "type": "object", "properties": { "a": argument }, "required": ["a"],
            "$defs": { "Color": { "type": "string", "enum": ["red", "12"] } } })
}

#[test]
fn arguments_without_a_type_are_held_to_what_their_reader_takes_them_for() {
    let setting = setting();
    let optional = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
    let color = json!({ "$ref": "#/$defs/Color" });
    let cases = [
        (optional, &[("hello", json!("hello")), ("null", Value::Null)][..], &[][..]),
        (json!({ "type": ["string", "null"] }), &[("hello", json!("hello")), ("null", Value::Null)], &[]),
        (color, &[("red", json!("red")), ("12", json!("12"))], &["blue", "\"red\"", "null"]),
        (json!({ "anyOf": [{ "$ref": "#/$defs/Color" }, { "type": "null" }] }), &[("red", json!("red"))], &["blue"]),
        (json!({ "enum": ["red", "blue"] }), &[("blue", json!("blue"))], &["\"red\"", "green"]),
        (json!({ "enum": ["red", null] }), &[("red", json!("red")), ("null", Value::Null)], &["green"]),
        (json!({ "const": "red" }), &[("red", json!("red"))], &["blue"]),
        (json!({ "type": ["integer", "null"] }), &[("7", json!(7)), ("null", Value::Null)], &["red"]),
    ];
    for (argument, allowed, refused) in cases {
        let schema = function(&argument);
        for (format, before, after) in UNTYPED {
            let grammar = format.calls(format.call("f", &schema, true).unwrap(), 1);
            let options = OutputOptions { functions: Functions::of([("f", &schema)]), ..tools(format) };
            for (written, meant) in allowed {
                let text = format!("{before}{written}{after}");
                assert!(setting.allows(&grammar, &text), "{format:?} of {argument}: {text:?}");
                let whole = gather(&options, &[&text]);
                let arguments: Value = serde_json::from_str(&whole.calls[0].1).unwrap();
                assert_eq!(arguments, json!({ "a": meant }), "{format:?} of {argument}");
            }
            for written in refused {
                let text = format!("{before}{written}{after}");
                assert!(!setting.allows(&grammar, &text), "{format:?} of {argument}: {text:?}");
            }
        }
    }
}

#[test]
fn a_text_or_something_else_is_free_unless_its_tool_is_strict() {
    let setting = setting();
    let schema = function(&json!({ "type": ["string", "integer"] }));
    for (format, before, after) in UNTYPED {
        let grammar = format.calls(format.call("f", &schema, false).unwrap(), 1);
        for written in ["red", "12"] {
            assert!(setting.allows(&grammar, &format!("{before}{written}{after}")), "{format:?}: {written}");
        }
        assert!(format.call("f", &schema, true).is_err(), "{format:?}");
    }
    let schema = function(&json!({ "anyOf": [{ "type": "string" }, { "type": "null" }], "maxLength": 3 }));
    assert_eq!(ToolFormat::Glm.call("f", &schema, true), Err("maxLength of a text".to_string()));
    let schema = function(&json!({ "type": ["string", "integer"] }));
    let grammar = ToolFormat::Gemma4.calls(ToolFormat::Gemma4.call("f", &schema, true).unwrap(), 1);
    for written in ["<|\"|>red<|\"|>", "12"] {
        let text = format!("<|tool_call>call:f{{a:{written}}}<tool_call|>");
        assert!(setting.allows(&grammar, &text), "{written}");
    }
}

/// By format, a call of `f` with an argument `a` that is a text, and one without arguments.
const CALLS: [(ToolFormat, &str, &str); 3] = [
    (ToolFormat::Coder, "<function=f>\n<parameter=a>\nred\n</parameter>\n</function>", "<function=f>\n</function>"),
    (ToolFormat::Glm, "f\n<arg_key>a</arg_key>\n<arg_value>red</arg_value>\n", "f\n"),
    (ToolFormat::Gemma4, "call:f{a:<|\"|>red<|\"|>}", "call:f{}"),
];

#[test]
fn a_function_whose_parameters_are_referred_to_has_them() {
    let setting = setting();
    let place = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] });
    let schema =
        json!({ "type": "object", "description": "Where", "$ref": "#/$defs/Place", "$defs": { "Place": place } });
    for (format, with, without) in CALLS {
        for strict in [true, false] {
            let grammar = format.call("f", &schema, strict).unwrap();
            assert!(setting.allows(&grammar, with) && !setting.allows(&grammar, without), "{format:?}");
        }
    }
}

#[test]
fn a_function_is_without_arguments_only_where_its_schema_says_so() {
    let setting = setting();
    let none = json!({ "type": "object", "properties": {} });
    for (format, with, without) in CALLS {
        let grammar = format.call("f", &none, true).unwrap();
        assert!(!setting.allows(&grammar, with) && setting.allows(&grammar, without), "{format:?}");
        for (more, feature) in [
            (json!({}), "arguments that it does not list"),
            (
                json!({ "properties": {}, "additionalProperties": { "type": "string" } }),
                "arguments that it does not list",
            ),
            (json!({ "properties": {}, "required": ["a"] }), "arguments that it does not list"),
            (json!({ "anyOf": [{ "properties": { "a": {} } }] }), "anyOf of an object"),
            (json!({ "properties": {}, "allOf": [{ "required": ["a"] }] }), "allOf of an object"),
        ] {
            let mut schema = json!({ "type": "object" });
            schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            for strict in [true, false] {
                assert_eq!(format.call("f", &schema, strict).err().as_deref(), Some(feature), "{format:?} of {schema}");
            }
            assert!(setting.allows(&format.any_call("f"), with), "{format:?}");
        }
        let least = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "minProperties": 1 });
        assert_eq!(format.call("f", &least, true).err().as_deref(), Some("minProperties of an object"), "{format:?}");
        assert!(setting.allows(&format.call("f", &least, false).unwrap(), with), "{format:?}");
    }
}

#[test]
fn lists_of_gemma_have_as_many_entries_as_they_are_to_have() {
    let setting = setting();
    let list = |more: Value| {
        let mut list = json!({ "type": "array", "items": { "type": "integer" } });
        list.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ToolFormat::Gemma4.call("f", &function(&list), true)
    };
    for (more, fits, fails) in [
        (json!({ "minItems": 2, "maxItems": 3 }), &["1,2", "1,2,3"][..], &["", "1", "1,2,3,4"][..]),
        (json!({ "maxItems": 1 }), &["", "1"], &["1,2"]),
        (json!({ "maxItems": 0 }), &[""], &["1"]),
        (json!({ "minItems": 1 }), &["1", "1,2,3,4"], &[""]),
    ] {
        let grammar = list(more.clone()).unwrap();
        let allows = |entries: &&str| setting.allows(&grammar, &format!("call:f{{a:[{entries}]}}"));
        assert!(fits.iter().all(allows) && !fails.iter().any(allows), "{more}");
    }
    assert_eq!(list(json!({ "uniqueItems": true })).err().as_deref(), Some("uniqueItems of a list"));
    assert_eq!(list(json!({ "minItems": 3, "maxItems": 2 })).err().as_deref(), Some("a list of at least 3"));
}

#[test]
fn a_text_ends_for_its_grammar_where_it_ends_for_its_reader() {
    let setting = setting();
    let schema = function(&json!({ "type": "string" }));
    let grammar = ToolFormat::Coder.call("f", &schema, true).unwrap();
    let after = "\n</function>";
    let text = |value: &str| format!("<function=f>\n<parameter=a>\n{value}</parameter>{after}");
    assert!(setting.allows(&grammar, &text("x")) && setting.allows(&grammar, &text("x\n")));
    assert!(!setting.allows(&grammar, &text("x</parameter>y\n")));
}

#[test]
fn a_schema_that_refers_to_itself_in_many_places_is_refused_in_time() {
    let properties: serde_json::Map<String, Value> =
        (0..12).map(|index| (format!("p{index}"), json!({ "$ref": "#" }))).collect();
    let schema = json!({ "type": "object", "properties": properties });
    assert!(ToolFormat::Gemma4.call("f", &schema, false).is_err());
}

#[test]
fn free_text_holds_nothing_that_a_reader_takes_for_a_call() {
    let setting = setting();
    let schema = function(&json!({ "enum": ["red"] }));
    let list = "[{\"name\": \"f\", \"arguments\": {\"a\": \"blue\"}}]";
    for (format, begins) in [
        (ToolFormat::Listed, format!("<tool_call>{list}")),
        (ToolFormat::Nemotron, format!("<TOOLCALL>{list}</TOOLCALL>")),
        (
            ToolFormat::Action,
            "Action:\n```json\n[{\"tool_name\": \"f\", \"parameters\": {\"a\": \"blue\"}}]\n```".to_string(),
        ),
    ] {
        let grammar = format.calls_in_text(format.call("f", &schema, true).unwrap(), 1, &["f"]);
        assert_eq!(gather(&tools(format), &[&begins]).calls.len(), 1, "{format:?}");
        assert!(!setting.allows(&grammar, &format!("Well. {begins}")), "{format:?}");
        assert!(setting.allows(&grammar, "Well, I would not."), "{format:?}");
    }
    let glm = ToolFormat::Glm4.calls_in_text(ToolFormat::Glm4.call("f", &schema, true).unwrap(), 1, &["f"]);
    for (text, allowed) in
        [("f\n{\"a\": \"red\"}", true), ("f\n{\"a\": \"blue\"}", false), ("Well\n\nso {it} is", true), ("", true)]
    {
        assert_eq!(setting.allows(&glm, text), allowed, "{text}");
    }
    for (format, begins) in [
        (ToolFormat::Coder, "<function=f>\n<parameter=a>\nblue\n</parameter>\n</function>"),
        (ToolFormat::DeepSeek, "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": \"blue\"}<｜tool▁call▁end｜>"),
        (ToolFormat::DeepSeekFenced, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"blue\"}\n```"),
    ] {
        let options = OutputOptions { functions: Functions::of([("f", &schema)]), ..tools(format) };
        assert_eq!(gather(&options, &[begins]).calls.len(), 1, "{format:?}");
        let grammar = format.calls_in_text(format.call("f", &schema, true).unwrap(), 1, &["f"]);
        assert!(setting.allows(&grammar, "Well, I would not."), "{format:?}");
        assert!(!setting.allows(&grammar, &format!("Well. {begins}")), "{format:?}");
        let call = Grammar::Sequence(vec![
            Grammar::Text("Well. ".to_string()),
            format.calls(format.call("f", &schema, true).unwrap(), 1),
        ]);
        let written = match format {
            ToolFormat::Coder => {
                "<tool_call>\n<function=f>\n<parameter=a>\nred\n</parameter>\n</function>\n</tool_call>".to_string()
            }
            _ => format!(
                "<｜tool▁calls▁begin｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                begins.trim_end_matches("<｜tool▁call▁end｜>").replace("blue", "red")
            ),
        };
        for grammar in [&grammar, &call] {
            assert!(setting.allows(grammar, &format!("Well. {written}")), "{format:?}: {written}");
        }
    }
}

#[test]
fn past_calls_are_written_as_their_reader_reads_them() {
    let given = "{\"a\": [1, {\"b\": \"<\\\"]}\"}]}".to_string();
    let calls = [("f", given.clone()), ("g", "{}".to_string())];
    for format in [
        ToolFormat::Hermes,
        ToolFormat::Llama3,
        ToolFormat::MistralList,
        ToolFormat::Listed,
        ToolFormat::Command,
        ToolFormat::Action,
        ToolFormat::Nemotron,
    ] {
        check(&tools(format), &format.past(&calls[..1]).unwrap(), ("", "", &[("f", &given)], None));
        check(&tools(format), &format.past(&calls).unwrap(), ("", "", &[("f", &given), ("g", "{}")], None));
    }
    assert_eq!(ToolFormat::Coder.past(&calls), None);
}
