//! Whether tools reach the prompt, and what becomes of a request whose tools would not.

use super::*;

/// What a conversation with a tool and these messages becomes.
fn rendered(source: &str, messages: &[Message]) -> Result<String, Error> {
    let folder = Folder::new("shown", |recipe| recipe).with_template(source);
    let prompter = prompter(&folder);
    let chat = Chat { messages: messages.to_vec(), tools: vec![weather()], ..Chat::default() };
    Ok(tokens(&prompter, Prompt::Chat(chat), Special::Parse, false)?.rendered.unwrap())
}

const TOOLS_OF_A_MESSAGE: &str = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\
    {% if message['role'] == 'system' and 'tools' in message %}<|tool|>{{ message['tools'] }}<|/tool|>{% endif %}{% endfor %}";

#[test]
fn tools_are_put_into_the_system_message_where_a_template_reads_them_there() {
    let shown = "<|tool|>[{\"name\": \"weather\", \"parameters\": {\"type\": \"object\", \"properties\": {\"city\": \
        {\"type\": \"string\"}}}}]<|/tool|>";
    let hi = message(Role::User, "Hi");
    assert_eq!(rendered(TOOLS_OF_A_MESSAGE, std::slice::from_ref(&hi)).unwrap(), format!("<system>{shown}<user>Hi"));
    let both = [message(Role::System, "Be brief."), hi];
    assert_eq!(rendered(TOOLS_OF_A_MESSAGE, &both).unwrap(), format!("<system>Be brief.{shown}<user>Hi"));
}

#[test]
fn a_system_message_is_added_where_tools_are_shown_beside_one_only() {
    let source = "{% for message in messages %}<{{ message.role }}>{{ message.content }}\
        {% if message.role == 'system' and tools %}{{ tools[0].function.name }}{% endif %}{% endfor %}";
    assert_eq!(rendered(source, &[message(Role::User, "Hi")]).unwrap(), "<system>weather<user>Hi");
    let turns = "{% for message in messages %}{% if loop.last and message.role == 'user' and tools %}\
        {{ tools[0].function.name }}: {% endif %}{{ message.content }}{% endfor %}";
    let answered = [message(Role::User, "Hi"), message(Role::Tool, "rain")];
    assert_eq!(rendered(turns, &answered).unwrap(), "Hirain", "a template may show tools in some turns only");
}

#[test]
fn tools_that_no_prompt_would_show_are_refused() {
    for source in [
        "{% if tools %}You have tools.{% endif %}{{ messages[0].content }}",
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}{# tools #}",
    ] {
        let error = rendered(source, &[message(Role::User, "Hi")]).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Unsupported, Some("tools")), "{}", error.message);
    }
}
