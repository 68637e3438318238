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
fn a_harmony_model_always_reasons() {
    let source = "<|start|>user<|message|>{{ messages[0].content }}<|end|><|start|>assistant{# <|channel|> #}";
    for thinking in [None, Some(true)] {
        assert!(rendered(source, thinking).unwrap().ends_with("<|start|>assistant"));
    }
    check_unsupported(rendered(source, Some(false)), "always reasons");
}

#[test]
fn a_harmony_turn_has_one_text_before_its_call() {
    let source = "{%- set turn = messages[0] %}{% if turn.content and turn.thinking %}{{ raise_exception('not both') }}\
        {% endif %}{{ turn.thinking or turn.content }}{# <|channel|> <|message|> #}";
    assert_eq!(habits(source), "Look it up.\n\nI look.");
    assert_eq!(habits("{{ messages[0].thinking }} {{ messages[0].content }}"), "Look it up. I look.");
}
