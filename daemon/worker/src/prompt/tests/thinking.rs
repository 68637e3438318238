//! Wishes about thinking, and past thoughts, in templates that have no `enable_thinking`.

use super::*;

/// What is rendered for a wish, or the refusal of it.
fn rendered(source: &str, thinking: Option<bool>) -> Result<String, Error> {
    let folder = Folder::new("thinking", |recipe| recipe).with_template(source);
    let prompter = prompter(&folder);
    let chat = Chat { messages: vec![message(Role::User, "Hi")], thinking, ..Chat::default() };
    Ok(tokens(&prompter, Prompt::Chat(chat), Special::Parse, false)?.rendered.unwrap())
}

#[track_caller]
fn check_unsupported(result: Result<String, Error>, words: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Unsupported, Some("thinking")));
    assert!(error.message.contains(words), "{}", error.message);
}

#[test]
fn a_harmony_model_grants_every_wish_about_thinking() {
    let source = "<|start|>user<|message|>{{ messages[0].content }}<|end|><|start|>assistant{# <|channel|> #}";
    for thinking in [None, Some(true), Some(false)] {
        assert!(rendered(source, thinking).unwrap().ends_with("<|start|>assistant"));
    }
}

#[test]
fn a_switch_called_thinking_is_set() {
    let unless_said = "{%- if not thinking is defined %}{% set thinking = false %}{% endif -%}\
        {{ messages[0].content }}{{ '<think>' if thinking else '</think>' }}";
    assert_eq!(rendered(unless_said, None).unwrap(), "Hi</think>");
    assert_eq!(rendered(unless_said, Some(false)).unwrap(), "Hi</think>");
    assert_eq!(rendered(unless_said, Some(true)).unwrap(), "Hi<think>");
    let elif = "{%- if tools %}T{% elif thinking %}Think first.{% else %}Be quick.{% endif %}";
    assert_eq!(rendered(elif, Some(true)).unwrap(), "Think first.");
    assert_eq!(rendered(elif, Some(false)).unwrap(), "Be quick.");
    let own = "{%- set thinking = '<think>' %}{{ messages[0].content }}{{ thinking }}";
    assert_eq!(rendered(own, Some(true)).unwrap(), "Hi<think>");
    check_unsupported(rendered(own, Some(false)), "always reasons");
    check_unsupported(rendered("A thinking machine: {{ messages[0].content }}", Some(true)), "does not reason");
}

#[test]
fn a_switch_that_is_set_otherwise_by_hand_is_refused() {
    let source = "{{ thinking }}{{ messages[0].content }}";
    let folder = Folder::new("switches", |recipe| recipe).with_template(source);
    let prompter = prompter(&folder);
    let arguments = Some(Json(r#"{"thinking": false}"#.to_string()));
    let messages = vec![message(Role::User, "Hi")];
    let both = Chat { messages, thinking: Some(true), template_arguments: arguments, ..Chat::default() };
    check_refused(prepare(&prompter, &chat(both)), ErrorKind::Invalid, "template_arguments");
}

#[test]
fn a_harmony_turn_has_one_text_before_its_call() {
    let source = "{%- set turn = messages[0] %}{% if turn.content and turn.thinking %}{{ raise_exception('not both') }}\
        {% endif %}{{ turn.thinking or turn.content }}{# <|channel|> <|message|> #}";
    assert_eq!(habits(source), "Look it up.\n\nI look.");
    assert_eq!(habits("{{ messages[0].thinking }} {{ messages[0].content }}"), "Look it up. I look.");
}
