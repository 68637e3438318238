//! What a choice makes of its tokens. The model is tiny and random, so tokens are given to it as a resumed answer's are.

use std::time::Instant;

use engine::text::{Special, Tokenizer};
use pipe::Delivered;
use protocol::generation::{Chat, Constraint, FinishReason, GenerateRequest, Json, Message, Prompt, Role, Tool};

use super::{Choice, Drawn, Ticket};
use crate::output::{HARMONY_TO_ANSWER, HARMONY_TO_NEXT};
use crate::prompt::{Prompter, Window};
use crate::render::RENDER_LIMITS;
use crate::tests::kit::{Folder, request, submission};

const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }} between <tool_call> tags{% endif %}\
    {% for message in messages %}{{ message.content }}{% endfor %} </think>";

/// A choice of a conversation with a tool, and the tokens of the text that it is to say.
fn choice(folder: &Folder, asked: GenerateRequest, says: &str) -> (Choice, Vec<u32>) {
    choice_after(TEMPLATE, folder, asked, says)
}

/// The same where another template writes the prompt.
fn choice_after(template: &str, folder: &Folder, asked: GenerateRequest, says: &str) -> (Choice, Vec<u32>) {
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let window = Window { context: 4096, capacity: 4096 };
    let facts = crate::facts::inspect(folder.path()).unwrap();
    let prompter = Prompter::open(folder.renderer(RENDER_LIMITS), "tiny", &facts, window).unwrap();
    let submit = submission(1, asked);
    let mut generation = prompter.prepare(submit, Instant::now(), &mut prompter.rendering().unwrap()).unwrap();
    let tokens = Tokenizer::open(folder.path()).unwrap().encode(says, Special::Parse).unwrap();
    (generation.choices.remove(0), tokens)
}

fn conversation(max_tokens: u32) -> GenerateRequest {
    let parameters = Some(Json(r#"{"type":"object","properties":{"city":{"type":"string"}}}"#.to_string()));
    let tool = Tool { name: "weather".to_string(), description: None, parameters, strict: false };
    let hello = Message {
        role: Role::User,
        content: "Hello".to_string(),
        reasoning: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    let chat = Chat { messages: vec![hello], tools: vec![tool], ..Chat::default() };
    GenerateRequest { prompt: Prompt::Chat(chat), ..request("", max_tokens) }
}

fn take_all(choice: &mut Choice, tokens: &[u32]) -> Vec<Drawn> {
    tokens.iter().map(|token| choice.take(*token).unwrap()).collect()
}

#[test]
fn a_choice_that_calls_a_tool_says_so_and_splits_its_reasoning() {
    let folder = Folder::new("calls", |recipe| recipe);
    let says = "<think>Sunny?</think>Let me see.\n<tool_call>\n\
        {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call><|im_end|>";
    let (mut choice, tokens) = choice(&folder, conversation(500), says);
    let drawn = take_all(&mut choice, &tokens);
    let joined = |part: fn(&Drawn) -> &str| drawn.iter().map(part).collect::<String>();
    assert_eq!(joined(|it| &it.delta.reasoning), "Sunny?");
    assert_eq!(joined(|it| &it.delta.text), "Let me see.");
    let calls: Vec<_> = drawn.iter().flat_map(|it| &it.delta.tool_calls).collect();
    assert_eq!(calls[0].name.as_deref(), Some("weather"));
    let arguments: String = calls.iter().map(|call| call.arguments.as_str()).collect();
    assert_eq!(arguments, "{\"city\": \"Bern\"}");
    assert_eq!(drawn.last().unwrap().finished.as_ref().unwrap().reason, FinishReason::ToolCalls);
    assert!(choice.reasoning.tokens() > 0 && choice.reasoning.tokens() < choice.tokens);
}

#[test]
fn a_token_counts_on_the_side_where_it_stands() {
    let folder = Folder::new("sides", |recipe| recipe);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let count = |text: &str| tokenizer.encode(text, Special::Parse).unwrap().len() as u32;
    let call = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
    for (before, thought, after) in [
        ("<think>", "\n\u{1F324} \n\n", "</think>\n\u{1F324}"),
        ("<think>", "\n</th> é </t ", "</think>é<|im_end|>"),
        ("<think>", "never closed \u{1F324} <", "<|im_end|>"),
        ("<think>", "never closed </think", ""),
        ("<think>", "Sunny?", &format!("{call}\n<|im_end|>")),
        ("<think>", &format!("Sunny? {call} Or not. "), "</think>Yes."),
        ("", "", "é </think> <think>"),
    ] {
        let says = format!("{before}{thought}{after}");
        let most = count(&says);
        let (mut choice, tokens) = choice(&folder, conversation(most), &says);
        take_all(&mut choice, &tokens);
        assert_eq!((choice.reasoning.tokens(), choice.tokens), (count(thought), most), "{says:?}");
        assert!(choice.is_finished());
    }
}

#[test]
fn thoughts_of_a_model_whose_template_says_nothing_of_them_are_no_answer() {
    let folder = Folder::new("unsaid", |recipe| recipe);
    let mut asked = conversation(500);
    if let Prompt::Chat(chat) = &mut asked.prompt {
        chat.tools.clear();
    }
    let says = "<think>Sunny?</think>Yes.<|im_end|>";
    let (mut choice, tokens) = choice_after("{{ messages[0].content }}", &folder, asked, says);
    let drawn = take_all(&mut choice, &tokens);
    let joined = |part: fn(&Drawn) -> &str| drawn.iter().map(part).collect::<String>();
    assert_eq!(
        (joined(|it| &it.delta.reasoning), joined(|it| &it.delta.text)),
        ("Sunny?".to_string(), "Yes.".to_string())
    );
    let (mut raw, tokens) = choice_after("{{ messages[0].content }}", &folder, request("Hello", 500), says);
    let drawn = take_all(&mut raw, &tokens);
    assert_eq!(drawn.iter().map(|it| it.delta.text.as_str()).collect::<String>(), "<think>Sunny?</think>Yes.");
}

#[test]
fn every_token_has_a_delta_even_while_its_text_is_held_back() {
    let folder = Folder::new("held", |recipe| recipe);
    let mut asked = conversation(100);
    asked.stop.strings = vec!["never to come".to_string()];
    let (mut choice, tokens) = choice(&folder, asked, "I will never to go<|im_end|>");
    let drawn = take_all(&mut choice, &tokens);
    assert!(drawn.iter().all(|it| it.delta.tokens == 1));
    assert!(drawn.iter().any(|it| it.delta.text.is_empty() && it.finished.is_none()));
    assert_eq!(drawn.iter().map(|it| it.delta.text.as_str()).collect::<String>(), "I will never to go");
}

#[test]
fn a_stop_string_counts_once_an_answer_is_as_long_as_it_must_be() {
    let folder = Folder::new("too-short", |recipe| recipe);
    let asked = |min_tokens| {
        let mut asked = conversation(100);
        asked.stop.strings = vec!["#".to_string()];
        asked.stop.min_tokens = min_tokens;
        asked
    };
    for (min_tokens, said) in [(0, "1"), (1, "1"), (2, "1#2"), (3, "1#2"), (5, "1#2#3")] {
        let (mut choice, tokens) = choice(&folder, asked(min_tokens), "1#2#3#4");
        let mut text = String::new();
        for token in tokens {
            let drawn = choice.take(token).unwrap();
            text += &drawn.delta.text;
            if drawn.finished.is_some() {
                break;
            }
        }
        assert_eq!(text, said, "after {min_tokens} tokens");
    }
}

#[test]
fn the_last_token_allowed_ends_the_choice_with_what_was_held_back() {
    let folder = Folder::new("length", |recipe| recipe);
    let (mut choice, tokens) = choice(&folder, conversation(3), "é!é");
    let drawn = take_all(&mut choice, &tokens[..3]);
    assert_eq!(drawn[2].finished.as_ref().unwrap().reason, FinishReason::Length);
    assert_eq!(drawn.iter().map(|it| it.delta.text.as_str()).collect::<String>(), "é!");
}

#[test]
fn a_replay_leaves_a_choice_as_drawing_did() {
    let folder = Folder::new("replay", |recipe| recipe);
    let says = "<think>Sunny?</think>It is <tool_call>\n{\"name\": \"wea";
    let (mut drawn, tokens) = choice(&folder, conversation(500), says);
    let (mut replayed, _) = choice(&folder, conversation(500), says);
    take_all(&mut drawn, &tokens);
    assert!(replayed.replay(Delivered { tokens: tokens.clone(), ..Delivered::default() }).unwrap().is_none());
    assert_eq!(replayed.take_replayed(), tokens);
    let rest = "ther\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";
    for token in Tokenizer::open(folder.path()).unwrap().encode(rest, Special::Parse).unwrap() {
        assert_eq!(replayed.take(token).unwrap().delta, drawn.take(token).unwrap().delta);
    }
    assert_eq!((replayed.tokens, replayed.reasoning.tokens()), (drawn.tokens, drawn.reasoning.tokens()));
}

#[test]
fn a_shape_applies_to_what_follows_the_reasoning() {
    let folder = Folder::new("thinking", |recipe| recipe);
    let shape = Constraint::JsonSchema { schema: Json(r#"{"enum":[{"a":1}]}"#.to_string()), strict: true };
    let asked = || {
        let mut asked = conversation(500);
        asked.constraint = Some(shape.clone());
        if let Prompt::Chat(chat) = &mut asked.prompt {
            chat.tools.clear();
        }
        asked
    };
    let (mut choice, tokens) = choice(&folder, asked(), "\n<think>{\"b\"} is wrong</think>\n\n{\"a\":1}");
    let drawn = take_all(&mut choice, &tokens);
    assert_eq!(drawn.iter().map(|it| it.delta.reasoning.as_str()).collect::<String>(), "{\"b\"} is wrong");
    assert_eq!(drawn.iter().map(|it| it.delta.text.as_str()).collect::<String>(), "{\"a\":1}");
    assert_eq!(drawn.last().unwrap().finished.as_ref().unwrap().reason, FinishReason::Stop);
    let (mut choice, tokens) = self::choice(&folder, asked(), "<think></think>{\"b\"");
    assert!(tokens.iter().any(|token| choice.take(*token).is_err()), "what does not fit cannot be taken");
}

#[test]
fn a_reasoning_that_spends_its_budget_is_closed() {
    let folder = Folder::new("budget", |recipe| recipe);
    let mut asked = conversation(500);
    asked.logprobs = Some(0);
    if let Prompt::Chat(chat) = &mut asked.prompt {
        chat.thinking_budget = Some(12);
    }
    let says = "<think>I think and think and think and think of nothing";
    let (mut choice, tokens) = choice(&folder, asked.clone(), says);
    let mut logits = vec![0.0; engine::random::TOKENS as usize];
    let mut taken = 0;
    while choice.forced.is_empty() {
        choice.take(tokens[taken]).unwrap();
        taken += 1;
    }
    let mut replayed = self::choice(&folder, asked, says).0;
    let delivered = Delivered { tokens: tokens[..taken].to_vec(), ..Delivered::default() };
    replayed.replay(delivered).unwrap();
    let mut drawn = String::new();
    while !choice.forced.is_empty() {
        let (mut again, position) = (logits.clone(), choice.tokens);
        let one = choice.draw(&mut logits, position).unwrap();
        assert_eq!(one.delta.logprobs.len(), 1);
        assert_eq!(replayed.draw(&mut again, position).unwrap().token, one.token, "a resumed answer ends it as well");
        drawn.push_str(std::str::from_utf8(&one.delta.logprobs[0].bytes).unwrap());
    }
    assert_eq!(drawn, "</think>");
    assert!(!choice.output.is_reasoning() && choice.thought >= 12);
}

#[test]
fn a_limit_that_cuts_a_call_or_the_end_of_a_spent_reasoning_shows_neither() {
    let folder = Folder::new("cut", |recipe| recipe);
    let said = |drawn: &[Drawn]| {
        let joined = |part: fn(&Drawn) -> &str| drawn.iter().map(part).collect::<String>();
        assert_eq!(drawn.last().unwrap().finished.as_ref().unwrap().reason, FinishReason::Length);
        (joined(|it| &it.delta.text), joined(|it| &it.delta.reasoning))
    };
    let says = "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arg";
    let most = choice(&folder, conversation(500), says).1.len() as u32;
    let (mut called, tokens) = choice(&folder, conversation(most), says);
    assert_eq!(said(&take_all(&mut called, &tokens)), ("Let me see.".to_string(), String::new()));

    let thinks = |max_tokens: u32| {
        let mut asked = conversation(max_tokens);
        if let Prompt::Chat(chat) = &mut asked.prompt {
            chat.thinking_budget = Some(12);
        }
        choice(&folder, asked, "<think>I think and think and think and think of nothing")
    };
    let (mut whole, tokens) = thinks(500);
    let taken = tokens.iter().take_while(|token| whole.forced.is_empty() && whole.take(**token).is_ok()).count();
    let close: Vec<u32> = whole.forced.iter().copied().collect();
    assert!(close.len() > 2, "the tag is several tokens here");
    for more in 1..close.len() {
        let (mut closing, _) = thinks((taken + more) as u32);
        let drawn = take_all(&mut closing, &[&tokens[..taken], &close[..more]].concat());
        let (text, reasoning) = said(&drawn);
        assert!(text.is_empty() && reasoning.starts_with("I think") && !reasoning.contains('<'), "{reasoning:?}");
        assert_eq!(closing.reasoning.tokens(), whole.reasoning.tokens());
    }
}

#[test]
fn a_model_that_always_reasons_answers_at_once_where_no_thoughts_are_wanted() {
    let folder = Folder::new("no-thoughts", |recipe| recipe);
    let asked = |thinking| {
        let mut asked = conversation(500);
        if let Prompt::Chat(chat) = &mut asked.prompt {
            *chat = Chat { tools: Vec::new(), thinking, ..chat.clone() };
        }
        asked
    };
    let opened = "{{ messages[0].content.split('</think>')[-1] }}<think>\n";
    let (mut choice, closing) = choice_after(opened, &folder, asked(Some(false)), "</think>");
    assert_eq!(choice.forced, closing);
    take_all(&mut choice, &closing);
    assert!(!choice.output.is_reasoning() && choice.reasoning.tokens() == 0);
    assert!(choice_after(opened, &folder, asked(None), "").0.forced.is_empty());
    let left_to_the_model = "{{ messages[0].content.split('<think>')[-1].split('</think>')[-1] }}";
    let harmony = "{{ messages[0].content }}{# <|channel|> <|message|> #}";
    let (_, to_answer) = choice_after(harmony, &folder, asked(None), HARMONY_TO_ANSWER);
    for (template, opening, closing) in
        [(left_to_the_model, "<think>", closing), (harmony, "<|channel|>analysis<|message|>", to_answer)]
    {
        let (mut choice, tokens) = choice_after(template, &folder, asked(Some(false)), opening);
        assert!(choice.forced.is_empty());
        take_all(&mut choice, &tokens);
        assert_eq!(choice.forced, closing);
    }
}

#[test]
fn where_thoughts_are_cut_short_in_the_harmony_form_a_call_may_follow_as_well_as_an_answer() {
    let folder = Folder::new("harmony-call", |recipe| recipe);
    let harmony = "{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}{# <|channel|> <|message|> #}";
    let asked = |budget| {
        let mut asked = conversation(500);
        if let Prompt::Chat(chat) = &mut asked.prompt {
            (chat.thinking, chat.thinking_budget) = if budget { (None, Some(0)) } else { (Some(false), None) };
        }
        asked
    };
    let (_, to_next) = choice_after(harmony, &folder, asked(true), HARMONY_TO_NEXT);
    let call = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\":\"Bern\"}<|im_end|>";
    for (budget, says) in [(false, call), (true, call), (true, "<|channel|>final<|message|>No.<|im_end|>")] {
        let (mut choice, tokens) = choice_after(harmony, &folder, asked(budget), "<|channel|>analysis<|message|>");
        take_all(&mut choice, &tokens);
        assert_eq!(choice.forced, to_next);
        take_all(&mut choice, &to_next);
        let rest = Tokenizer::open(folder.path()).unwrap().encode(says, Special::Parse).unwrap();
        let drawn = take_all(&mut choice, &rest[..rest.len() - 1]);
        let calls: Vec<_> = drawn.iter().flat_map(|it| &it.delta.tool_calls).collect();
        assert_eq!(calls.first().and_then(|it| it.name.as_deref()), (says == call).then_some("weather"));
        let text: String = drawn.iter().map(|it| it.delta.text.as_str()).collect();
        assert_eq!(text, if says == call { "" } else { "No." });
    }
}

#[test]
fn sequences_lead_back_to_their_request_and_choice() {
    let ticket = Ticket(70_000);
    assert_eq!(Ticket::of(ticket.sequence(127)), (ticket, 127));
}
