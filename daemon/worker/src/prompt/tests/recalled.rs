//! Whether past calls and their results reach the prompt, whatever its template wants of them.

use super::*;

/// What a conversation becomes in which this was said beside calls of these numbers of days.
fn rendered(source: &str, said: &str, days: &[u32], tools: Vec<Tool>) -> Result<String, Error> {
    let folder = Folder::new("recalled", |recipe| recipe).with_template(source);
    let prompter = prompter(&folder);
    let mut caller = message(Role::Assistant, said);
    let mut messages = vec![message(Role::User, "Rain?")];
    for days in days {
        let arguments = Json(format!("{{\"days\":{days}, \"in\":\"Köln's\"}}"));
        caller.tool_calls.push(ToolCall { id: format!("call{days}"), name: "weather".to_string(), arguments });
    }
    messages.push(caller);
    for days in days {
        let mut result = message(Role::Tool, &format!("{days} dry"));
        result.tool_call_id = Some(format!("call{days}"));
        messages.push(result);
    }
    let chat = Chat { messages, tools, ..Chat::default() };
    Ok(tokens(&prompter, Prompt::Chat(chat), Special::Parse, false)?.rendered.unwrap())
}

/// A template whose turns with calls are written so.
fn turns(calls: &str) -> String {
    format!(
        "{{% for message in messages %}}<{{{{ message.role }}}}>{{% if message.tool_calls %}}{calls}\
         {{% else %}}{{{{ message.content }}}}{{% endif %}}{{% endfor %}}"
    )
}

fn each(arguments: &str) -> String {
    format!("{{% for call in message.tool_calls %}}{{{{ call.function.name + {arguments} }}}};{{% endfor %}}")
}

#[test]
fn arguments_are_an_object_or_a_text_as_the_template_takes_them() {
    let shown = "<user>Rain?<assistant>weather{\"days\": 2, \"in\": \"Köln's\"};<tool>2 dry";
    for arguments in [
        "(call.function.arguments | tojson)",
        "call.function.arguments",
        "('' ~ call.function.arguments)",
        "(call.function.arguments if call.function.arguments is string else raise_exception('text!'))",
    ] {
        assert_eq!(rendered(&turns(&each(arguments)), "", &[2], Vec::new()).unwrap(), shown, "{arguments}");
    }
    let pairs = "{% for call in message.tool_calls %}{{ call.function.name }}{% for key, value in call.function.arguments.items() %} \
        {{ key }}={{ value }}{% endfor %}{% endfor %}";
    let shown = "<user>Rain?<assistant>weather days=2 in=Köln's<tool>2 dry";
    assert_eq!(rendered(&turns(pairs), "", &[2], Vec::new()).unwrap(), shown);
}

#[test]
fn no_content_is_null_where_a_template_shows_calls_beside_null_only() {
    let calls = each("call.function.arguments");
    let source =
        turns(&format!("{{% if message.content is none %}}{calls}{{% else %}}{{{{ message.content }}}}{{% endif %}}"));
    let call = "weather{\"days\": 2, \"in\": \"Köln's\"};<tool>2 dry";
    assert_eq!(rendered(&source, "", &[2], Vec::new()).unwrap(), format!("<user>Rain?<assistant>{call}"));
    let beside = rendered(&source, "I look.", &[2], Vec::new()).unwrap();
    assert_eq!(beside, format!("<user>Rain?<assistant>I look.<assistant>{call}"));
    let trims = turns(&format!("{{{{ message.content | trim }}}}{calls}"));
    assert_eq!(
        rendered(&trims, " I look. ", &[2], Vec::new()).unwrap(),
        format!("<user>Rain?<assistant>I look.{call}")
    );
}

#[test]
fn calls_that_a_template_takes_one_by_one_stand_before_their_results() {
    let calls = each("(call.function.arguments | tojson)");
    let source = turns(&format!(
        "{{% if message.tool_calls|length > 1 %}}{{{{ raise_exception('one!') }}}}{{% endif %}}{calls}"
    ));
    let one = |days| format!("weather{{\"days\": {days}, \"in\": \"Köln's\"}};<tool>{days} dry");
    let both = format!("<user>Rain?<assistant>I look.<assistant>{}<assistant>{}", one(1), one(2));
    assert_eq!(rendered(&source, "I look.", &[1, 2], Vec::new()).unwrap(), both);
}

#[test]
fn calls_that_a_template_leaves_out_are_written_as_the_model_writes_them() {
    let plain = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}";
    let call = |days| format!("{{\"name\": \"weather\", \"arguments\": {{\"days\": {days}, \"in\": \"Köln's\"}}}}");
    let hermes = format!("{plain}{{# <tool_call> #}}");
    let tagged = |days| format!("<tool_call>\n{}\n</tool_call>", call(days));
    let shown = format!("<user>Rain?<assistant>I look.\n{}\n{}<tool>1 dry<tool>2 dry", tagged(1), tagged(2));
    assert_eq!(rendered(&hermes, "I look.", &[1, 2], Vec::new()).unwrap(), shown);
    let phi = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% if message['tools'] %}\
        <|tool|>…<|/tool|>{{ message['tools'] }}{% endif %}{% endfor %}";
    let with_tools = rendered(phi, "", &[2], vec![weather()]).unwrap();
    let listed = format!("<user>Rain?<assistant><|tool_call|>[{}]<tool>2 dry", call(2));
    assert!(with_tools.ends_with(&listed), "{with_tools}");
}

#[test]
fn glm4_reads_the_name_of_a_call_beside_its_arguments_and_observes_results() {
    let source = "{% for message in messages %}{% if message.role == 'assistant' %}<|assistant|>{{ message.metadata }}\n\
        {{ message.content }}{% elif message.role in ['user', 'observation'] %}<|{{ message.role }}|>\n{{ message.content }}\
        {% endif %}{% endfor %}{# <|observation|> #}";
    let one =
        |days| format!("<|assistant|>weather\n{{\"days\": {days}, \"in\": \"Köln's\"}}<|observation|>\n{days} dry");
    let both = format!("<|user|>\nRain?<|assistant|>\nI look.{}{}", one(1), one(2));
    assert_eq!(rendered(source, "I look.", &[1, 2], Vec::new()).unwrap(), both);
}

#[test]
fn calls_that_no_prompt_would_show_are_refused() {
    for source in [
        "{% for message in messages %}{{ message.content }}{% endfor %}",
        "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}{# <tool_call> #}",
    ] {
        let error = rendered(source, "", &[1], Vec::new()).unwrap_err();
        assert_eq!(
            (error.kind, error.param.as_deref()),
            (ErrorKind::Unsupported, Some("messages")),
            "{}",
            error.message
        );
    }
    let refuses = "{{ raise_exception('no!') if messages[1].role == 'assistant' }}";
    assert!(
        rendered(refuses, "", &[1], Vec::new()).unwrap_err().message.contains("no!"),
        "in the template's own words"
    );
}
