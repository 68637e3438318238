//! Templates that use, misuse and abuse the language.

use serde_json::json;

use super::*;
use crate::text::tokenizer::samples::Folder;

fn open(files: &[(&str, &str)]) -> Result<Option<Template>, TextError> {
    Template::open(Folder::new(files).path())
}

fn compile(files: &[(&str, &str)]) -> Result<Compiled, TextError> {
    open(files)?.expect("the folder has a template").compile()
}

fn render_with(source: &str, arguments: Value) -> Result<String, TemplateError> {
    let template = compile(&[("chat_template.jinja", source)]).unwrap();
    let Value::Object(arguments) = arguments else { return Ok(String::new()) };
    template.render(&Conversation {
        messages: &json!([{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Yo"}]),
        tools: None,
        add_generation_prompt: true,
        continue_final_message: false,
        arguments: &arguments,
        now_unix_ms: 1_709_210_096_789,
    })
}

#[track_caller]
fn check(source: &str, expected: &str) {
    assert_eq!(render_with(source, json!({})).as_deref(), Ok(expected), "{source}");
}

#[test]
fn blocks_are_trimmed() {
    check("{% if true %}\n  {% if true %}\nx\n  {% endif %}\n{% endif %}\ny\n", "x\ny");
    check("a {%- if true -%} b {%- endif -%} c", "abc");
}

#[test]
fn generation_tags_only_group() {
    check("a\n{% generation %}\nb\n{% endgeneration %}\nc", "a\nb\nc");
    check("a {%- generation -%} b {%- endgeneration %} c", "ab c");
    check("{% set x = 1 %}{%- generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21");
    check("{{ '{%' }} generation", "{% generation");
}

#[test]
fn python_methods_work() {
    check("{{ ' a '.strip() }}|{{ 'xxaxx'.lstrip('x') }}|{{ 'xxaxx'.rstrip('x') }}", "a|axx|xxa");
    check(
        "{{ 'a b  c'.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a b c'.rsplit(' ', 1)[0] }}",
        "['a', 'b', 'c']|['a', 'b,c']|a b",
    );
    check("{{ 'a b  c'.rsplit(none, 1) }}|{{ 'a  b c'.split(maxsplit=1) }}", "['a b', 'c']|['a', 'b c']");
    check("{{ 'abc'.startswith('a') }}|{{ 'abc'.endswith(('x', 'c')) }}", "True|True");
    check("{{ 'they\\'re HERE'.title() }}|{{ 'aBc'.swapcase() }}|{{ 'ab'.capitalize() }}", "They'Re Here|AbC|Ab");
    check("{{ 'abc'.removeprefix('a').removesuffix('c') }}|{{ 'a-b-c'.partition('-')[2] }}", "b|b-c");
    check("{{ '-'.join(['a', 'b']) }}|{{ 'aXbX'.replace('X', '', 1) }}|{{ '7'.zfill(3) }}", "a-b|abX|007");
    check("{{ {'a': 1}.get('b', 2) }}|{{ {'a': 1}.get('b') }}|{{ {'a': 1}.items()|list }}", "2|None|[('a', 1)]");
    check("{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "b1a2");
    check("{{ [5, 6].index(6) }}|{{ 'abc'.find('c') }}|{{ 'a\nb'.splitlines() }}", "1|2|['a', 'b']");
}

#[test]
fn undefined_values_are_lenient_but_not_chainable() {
    check("[{{ nothing }}]{% for x in nothing %}x{% endfor %}{{ nothing is defined }}", "[]False");
    check("{{ nothing|length }}{% if not nothing %}!{% endif %}{{ messages[0].nothing }}", "0!");
    check("{{ documents is none }}{{ tools is none }}", "TrueTrue");
    assert!(matches!(render_with("{{ nothing.at.all }}", json!({})), Err(TemplateError::Failed(_))));
}

#[test]
fn json_is_written_as_python_does() {
    let json = |source: &str, value: Value| render_with(source, json!({"x": value})).unwrap();
    let value = json!({"b": [1, 2.0, 1e-7, 1e16, null, true], "a": "é<&>\"\\\n\u{1}\u{7f}'", "c": {}, "d": []});
    let expected =
        "{\"b\": [1, 2.0, 1e-07, 1e+16, null, true], \"a\": \"é<&>\\\"\\\\\\n\\u0001\u{7f}'\", \"c\": {}, \"d\": []}";
    assert_eq!(json("{{ x|tojson }}", value), expected);
    let indented = "{\n  \"a\": [\n    1,\n    {}\n  ]\n}";
    assert_eq!(json("{{ x|tojson(indent=2) }}", json!({"a": [1, {}]})), indented);
    assert_eq!(json("{{ x|tojson(2) }}", json!({"a": [1, {}]})), indented);
    assert_eq!(json("{{ x|tojson(separators=(',', ':')) }}", json!({"a": [1, 2]})), "{\"a\":[1,2]}");
    assert_eq!(json("{{ x|tojson(ensure_ascii=true) }}", json!("é😀")), "\"\\u00e9\\ud83d\\ude00\"");
    assert_eq!(json("{{ x|tojson(sort_keys=true) }}", json!({"b": 1, "a": 2})), "{\"a\": 2, \"b\": 1}");
    assert_eq!(json("{{ {1: 2, true: none}|tojson }}", json!(0)), "{\"1\": 2, \"true\": null}");
    assert!(matches!(render_with("{{ nothing|tojson }}", json!({})), Err(TemplateError::Failed(_))));
}

#[test]
fn numbers_read_as_pythons_wherever_they_stand() {
    let write =
        |source: &str| render_with(source, json!({"x": 1e-7, "y": [1e16, 0.5, 2.0], "z": {"a": -2.5e-9}})).unwrap();
    assert_eq!(
        write("{{ x }} {{ '' ~ x }} {{ x|string }} {{ y }} {{ z }}"),
        "1e-07 1e-07 1e-07 [1e+16, 0.5, 2.0] {'a': -2.5e-09}"
    );
    assert_eq!(write("{{ x|tojson }} {{ z|tojson }} {{ y|join(' ') }}"), "1e-07 {\"a\": -2.5e-09} 1e+16 0.5 2.0");
    assert_eq!(
        write("{{ x is number }} {{ x is float }} {{ x is integer }} {{ x is string }}"),
        "True True False False"
    );
}

#[test]
fn time_comes_from_the_caller() {
    check("{{ strftime_now('%d %b %Y') }}", "29 Feb 2024");
    check(
        "{{ strftime_now('%A, %B %-d, %Y %H:%M:%S %p %j %y %I %%') }}",
        "Thursday, February 29, 2024 12:34:56 PM 060 24 12 %",
    );
    assert_eq!(strftime::format("%F %T %a %j", 0), "1970-01-01 00:00:00 Thu 001");
    assert_eq!(strftime::format("%F %T", -1), "1969-12-31 23:59:59");
    assert_eq!(strftime::format("%F %j", 4_102_444_799_000), "2099-12-31 365");
    assert_eq!(strftime::format("%F %Q %", i64::MAX).split(' ').skip(1).collect::<Vec<_>>(), ["%Q", "%"]);
}

#[test]
fn a_template_refuses_in_its_own_words() {
    let error = render_with("{{ raise_exception('Roles must alternate!') }}", json!({})).unwrap_err();
    assert_eq!(error, TemplateError::Raised("Roles must alternate!".to_string()));
    let inside = "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}";
    assert_eq!(render_with(inside, json!({})), Err(TemplateError::Raised("deep".to_string())));
}

#[test]
fn endless_templates_are_ended() {
    let nested = "{% for a in range(90000) %}".repeat(3) + "{% set x = a %}" + &"{% endfor %}".repeat(3);
    assert_eq!(render_with(&nested, json!({})), Err(TemplateError::Endless));
    let wordy = "{% for a in range(2000) %}{{ 'x' * 90000 }}{% endfor %}";
    assert_eq!(render_with(wordy, json!({})), Err(TemplateError::Endless));
    let recursive = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(render_with(recursive, json!({})).is_err());
    let growing = "{% set ns = namespace(x=[]) %}{% for a in range(80) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}";
    assert!(render_with(growing, json!({})).is_err());
}

#[test]
fn json_of_json_and_of_long_lists_ends_where_it_is_too_large() {
    let again = format!("{{{{ 'x'{} }}}}", "|tojson".repeat(40));
    for source in [&again, "{{ ([1] * 99999999)|tojson }}", "{{ [[1]]|tojson(indent='x' * 99999999)|length }}"] {
        match render_with(source, json!({})) {
            Err(error) => assert!(error.to_string().contains("tojson: the value is too large"), "{error}"),
            Ok(length) => assert!(length.parse::<usize>().unwrap() < 1000, "an indentation is short: {length}"),
        }
    }
}

#[test]
fn special_tokens_and_arguments_are_variables() {
    let template = compile(&[
        ("chat_template.jinja", "{{ bos_token }}{{ eos_token }}{{ enable_thinking }}{{ messages|length }}"),
        ("tokenizer_config.json", r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null}"#),
    ]);
    let arguments = json!({"enable_thinking": false, "messages": "no", "bos_token": "<b>"});
    let conversation = Conversation {
        messages: &json!([]),
        tools: None,
        add_generation_prompt: false,
        continue_final_message: false,
        arguments: arguments.as_object().expect("it is an object"),
        now_unix_ms: 0,
    };
    assert_eq!(template.unwrap().render(&conversation).unwrap(), "<b></s>False0");
}

#[test]
fn templates_are_found_in_every_place() {
    let found = |files: &[(&str, &str)]| open(files).unwrap().map(|it| it.source().to_string());
    let config = ("tokenizer_config.json", r#"{"chat_template": "config"}"#);
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[("tokenizer_config.json", r#"{"chat_template": null}"#)]), None);
    assert_eq!(found(&[config]).as_deref(), Some("config"));
    assert_eq!(found(&[config, ("chat_template.json", r#"{"chat_template": "json"}"#)]).as_deref(), Some("json"));
    assert_eq!(found(&[config, ("chat_template.jinja", "jinja")]).as_deref(), Some("jinja"));
}

#[test]
fn a_conversation_with_tools_takes_the_template_for_tools() {
    let config =
        r#"{"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]}"#;
    let sources = open(&[("tokenizer_config.json", config)]).unwrap().expect("there is one");
    assert_eq!((sources.source(), sources.tool_source()), ("plain", "tools"));
    let template = sources.compile().unwrap();
    let (messages, tools, arguments) = (json!([]), json!([{}]), Map::new());
    let conversation = |tools| Conversation {
        messages: &messages,
        tools,
        add_generation_prompt: true,
        continue_final_message: false,
        arguments: &arguments,
        now_unix_ms: 0,
    };
    assert_eq!(template.render(&conversation(None)).unwrap(), "plain");
    assert_eq!(template.render(&conversation(Some(&tools))).unwrap(), "tools");
}

#[test]
fn the_template_for_tools_may_lie_in_a_folder_beside_the_other() {
    let folder = Folder::new(&[("chat_template.jinja", "plain")]);
    let beside = folder.path().join("additional_chat_templates");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("tool_use.jinja"), "tools").unwrap();
    std::fs::write(beside.join("rag.jinja"), "{% if %}").unwrap();
    let found = Template::open(folder.path()).unwrap().expect("there is one");
    assert_eq!((found.source(), found.tool_source()), ("plain", "tools"));
}

#[test]
fn broken_templates_are_named() {
    let message = |files: &[(&str, &str)]| compile(files).err().expect("the template is refused").to_string();
    let error = message(&[("chat_template.jinja", "a\n{% if %}")]);
    assert!(error.contains("chat_template.jinja is invalid: line 2"), "{error}");
    let long = "x".repeat((1 << 20) + 1);
    assert!(message(&[("chat_template.jinja", &long)]).contains("1048577 bytes, and the most is 1048576"));
    assert!(message(&[("tokenizer_config.json", r#"{"chat_template": 5}"#)]).contains("no template named default"));
    assert!(message(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "x"}]}"#)]).contains("default"));
}
