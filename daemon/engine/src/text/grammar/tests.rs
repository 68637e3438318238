//! Babble that is held to shapes: whatever is drawn, the whole fits. The vocabulary is a random model's.

mod schemas;

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::random::{Recipe, TOKENS, TempFolder};
use crate::text::{Detokenizer, Start};

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

/// A number that follows from the one before.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *state >> 33
}

impl Setting {
    fn compile(&self, grammar: &Grammar) -> Matcher {
        self.grammars.compile(grammar).unwrap()
    }

    /// Draws evenly among what is allowed until the answer ends; `None` if it takes too long.
    fn babble(&self, matcher: &mut Matcher, seed: u64) -> Option<String> {
        let mut detokenizer = Detokenizer::new(&self.tokenizer, Start::Text);
        let (mut text, mut state) = (String::new(), seed);
        // Neighbouring seeds begin alike.
        for _ in 0..4 {
            next(&mut state);
        }
        for _ in 0..600 {
            let allowed = matcher.allowed().unwrap();
            let tokens: Vec<u32> = (0..TOKENS).filter(|token| allowed.allows(*token)).collect();
            let token = tokens[next(&mut state) as usize % tokens.len()];
            if token == TURN_END {
                return Some(text + &detokenizer.finish());
            }
            text += &detokenizer.push(token);
            matcher.take(token).unwrap();
            if matcher.is_over() {
                return Some(text + &detokenizer.finish());
            }
        }
        None
    }

    /// Babbles with many seeds; returns what came to an end, which must be most.
    fn babbles(&self, grammar: &Grammar) -> Vec<String> {
        let matcher = self.compile(grammar);
        let texts: Vec<String> = (0..40).filter_map(|seed| self.babble(&mut matcher.fork(), seed)).collect();
        assert!(texts.len() > 20, "only {} of 40 ended", texts.len());
        texts
    }

    fn refused(&self, shape: Shape) -> String {
        self.grammars.compile(&Grammar::Shape(shape)).err().expect("it is refused").to_string()
    }

    fn accepts(&self, grammar: &Grammar, text: &str) -> bool {
        let mut matcher = self.compile(grammar);
        let tokens = self.tokenizer.encode(text, crate::text::Special::Parse).unwrap();
        tokens.iter().all(|token| !matcher.is_over() && matcher.take(*token).is_ok())
            && (matcher.is_over() || matcher.allowed().is_ok_and(|allowed| allowed.allows(TURN_END)))
    }
}

fn schema(schema: Value) -> Grammar {
    Grammar::Shape(Shape::Json { schema, strict: true })
}

fn strict(schema: Value) -> Shape {
    Shape::Json { schema, strict: true }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    name: String,
    age: u8,
    role: Role,
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Admin,
    User,
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 8 },
            "age": { "type": "integer", "minimum": 0, "maximum": 130 },
            "role": { "$ref": "#/$defs/Role" },
            "tags": { "type": "array", "items": { "type": "string", "pattern": "^[a-z]{1,4}$" }, "maxItems": 3 },
        },
        "required": ["name", "age", "role", "tags"],
        "$defs": { "Role": { "enum": ["admin", "user"] } },
    })
}

#[test]
fn babble_held_to_a_schema_fits_it() {
    let setting = setting();
    for text in setting.babbles(&schema(person())) {
        let person: Person = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(person.name.chars().count() <= 8 && person.age <= 130 && person.tags.len() <= 3, "{text}");
        assert!(person.tags.iter().all(|tag| tag.bytes().all(|byte| byte.is_ascii_lowercase())), "{text}");
        let _ = person.role;
    }
}

#[test]
fn babble_held_to_other_shapes_fits_them() {
    let setting = setting();
    for text in setting.babbles(&Grammar::Shape(Shape::Regex("[0-9]{3}-[a-f]+".to_string()))) {
        let (digits, letters) = text.split_once('-').unwrap();
        assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        assert!(!letters.is_empty() && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte)), "{text}");
    }
    let texts = ["yes".to_string(), "no \"never\"".to_string(), "ja".to_string()];
    let babbles = setting.babbles(&Grammar::Shape(Shape::Choice(texts.to_vec())));
    assert!(babbles.iter().all(|text| texts.contains(text)));
    assert!(texts.iter().all(|text| babbles.contains(text)), "every choice can be made: {babbles:?}");
    let lark = "start: item (\", \" item)*\nitem: /[a-c]/ \"=\" NUMBER\nNUMBER: /[0-9]{1,2}/";
    for text in setting.babbles(&Grammar::Shape(Shape::Lark(lark.to_string()))) {
        let pairs = text.split(", ").map(|pair| pair.split_once('=').unwrap());
        assert!(pairs.into_iter().all(|(key, value)| "abc".contains(key) && value.parse::<u8>().is_ok()), "{text}");
    }
}

#[test]
fn any_object_is_json() {
    let setting = setting();
    let grammar = Grammar::Shape(Shape::Json { schema: json!({ "type": "object" }), strict: true });
    assert!(setting.accepts(&grammar, r#"{"a": [1, -2.5e3, null, {"é": true}], "b": ""}"#));
    assert!(setting.accepts(&grammar, "{}"));
    assert!(!setting.accepts(&grammar, "[1]"));
    assert!(!setting.accepts(&grammar, r#"{"a": 1,}"#));
    assert!(!setting.accepts(&grammar, r#"{"a": 1"#));
    assert!(!setting.accepts(&grammar, "{\"a\":          1}"), "white space is bounded");
}

#[test]
fn a_grammar_goes_around_what_a_model_says_freely() {
    let setting = setting();
    let call = |name: &str| Grammar::Text(format!("{{\"name\": \"{name}\"}}"));
    let calls = Grammar::Repeated {
        item: Box::new(Grammar::Sequence(vec![
            Grammar::Until("<tool_call>".to_string()),
            Grammar::Either(vec![call("a"), call("b")]),
            Grammar::Text("</tool_call>".to_string()),
        ])),
        separator: String::new(),
        most: 2,
    };
    let whole =
        Grammar::Sequence(vec![Grammar::Optional(Box::new(calls)), Grammar::Without(vec!["<tool_call>".to_string()])]);
    for good in [
        "just text < that is no call",
        "<tool_call>{\"name\": \"a\"}</tool_call>",
        "first <tool_call>{\"name\": \"b\"}</tool_call> and <tool_call>{\"name\": \"a\"}</tool_call> done",
    ] {
        assert!(setting.accepts(&whole, good), "{good}");
    }
    for bad in [
        "<tool_call>{\"name\": \"c\"}</tool_call>",
        "text <tool_call> more",
        "<tool_call>{\"name\": \"a\"}</tool_call><tool_call>{\"name\": \"a\"}</tool_call><tool_call>{\"name\": \"a\"}</tool_call>",
    ] {
        assert!(!setting.accepts(&whole, bad), "{bad}");
    }
}

#[test]
fn what_goes_before_a_marker_may_not_hold_others() {
    let setting = setting();
    for marker in ["<call>", "<|im_start|>"] {
        let others = vec!["<function=".to_string(), "<do>".to_string(), "<|im_end|>".to_string()];
        let until = Grammar::UntilWithout(marker.to_string(), others.clone());
        let whole = Grammar::Sequence(vec![until, Grammar::Text("a".to_string())]);
        assert!(setting.accepts(&whole, &format!("so <functio\n{marker}a")), "{marker}");
        for other in ["<function=", "<do>"] {
            assert!(!setting.accepts(&whole, &format!("so {other} {marker}a")), "{marker} after {other}");
            assert!(!setting.accepts(&Grammar::Without(others.clone()), &format!("so {other} it is")), "{other}");
        }
        assert!(setting.accepts(&Grammar::Without(others), "so <func it is"));
    }
}

#[test]
fn special_tokens_stand_for_themselves_and_are_never_spelled() {
    let setting = setting();
    let special = "<|im_start|>";
    let whole = Grammar::Sequence(vec![Grammar::Until(special.to_string()), Grammar::Text("ok".to_string())]);
    assert!(setting.accepts(&whole, "thinking<|im_start|>ok"));
    let spelled = setting.tokenizer.encode("x<|im_start|>", crate::text::Special::Plain).unwrap();
    let mut matcher = setting.compile(&whole);
    spelled.iter().for_each(|token| matcher.take(*token).unwrap());
    assert!(!matcher.allowed().unwrap().allows(TURN_END), "the spelled token does not end the thinking");
    let free = |but: &str| setting.compile(&Grammar::Without(vec![but.to_string()])).allowed().unwrap();
    let special_token = setting.tokenizer.token_id(special).unwrap();
    assert!(free("x").allows(special_token) && !free(special).allows(special_token));
    let not_first = |first: &str| {
        Grammar::NotFirst(first.to_string(), Box::new(Grammar::UntilWithout("</a>".to_string(), Vec::new())))
    };
    assert!(!setting.compile(&not_first(special)).allowed().unwrap().allows(special_token));
    assert!(setting.accepts(&not_first("<b>"), "a <b> </a>") && !setting.accepts(&not_first("<b>"), " <b> </a>"));
    let until = Grammar::UntilWithout("</a>".to_string(), vec![special.to_string()]);
    assert!(!setting.compile(&until).allowed().unwrap().allows(special_token));
    let until = Grammar::UntilWithout("</a>".to_string(), vec!["b".to_string()]);
    assert!(setting.accepts(&until, "so <|im_start|> it </a>") && !setting.accepts(&until, "b <|im_start|> it </a>"));
}

#[test]
fn an_end_token_is_allowed_only_where_the_answer_may_end() {
    let setting = setting();
    let mut matcher = setting.compile(&Grammar::Shape(Shape::Regex("ab*".to_string())));
    assert!(!matcher.allowed().unwrap().allows(TURN_END));
    matcher.take(u32::from(b'a')).unwrap();
    let allowed = matcher.allowed().unwrap();
    assert!(allowed.allows(TURN_END) && allowed.allows(u32::from(b'b')) && !allowed.allows(u32::from(b'a')));
    assert!(!matcher.is_over() && !allowed.ends_only());
    let mut logits = vec![0.5; TOKENS as usize];
    allowed.apply(&mut logits);
    assert_eq!(logits.iter().filter(|logit| logit.is_finite()).count(), 2);
    assert!(matcher.take(u32::from(b'z')).is_err(), "what is not allowed is an error");
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    let setting = setting();
    let inner = json!({ "type": "object", "properties": { "x": { "type": "array", "uniqueItems": true } } });
    assert_eq!(
        setting.refused(strict(inner.clone())),
        "the schema uses 'uniqueItems' at #/properties/x, which is not enforced here"
    );
    for (keyword, value) in [("not", json!({})), ("if", json!({})), ("propertyNames", json!({ "maxLength": 2 }))] {
        let message = setting.refused(strict(json!({ "type": "object", keyword: value })));
        assert!(message.contains(keyword), "{message}");
    }
    let format = setting.refused(strict(json!({ "type": "string", "format": "semver" })));
    assert!(format.contains("semver"), "{format}");
    setting.compile(&Grammar::Shape(Shape::Json { schema: inner, strict: false }));
    setting.compile(&schema(json!({ "type": "array", "uniqueItems": false, "items": { "type": "null" } })));
    // A property may have any name.
    setting.compile(&schema(json!({ "type": "object", "properties": { "not": { "type": "null" } } })));
    let loose = json!({ "type": "object", "x-guidance": { "lenient": true }, "properties": {}, "not": {} });
    assert!(setting.refused(strict(loose)).contains("'not'"), "a schema cannot loosen itself");
}

#[test]
fn hostile_shapes_are_refused_in_bounded_time() {
    let setting = setting();
    // Each may be given up when its patience ends.
    let bounded =
        |started: std::time::Instant| assert!(started.elapsed() < COMPILE_PATIENCE * 2, "{:?}", started.elapsed());
    let mut deep = json!({ "type": "null" });
    for _ in 0..80 {
        deep = json!({ "type": "array", "items": deep });
    }
    let many: Vec<Value> =
        (0..4_000).map(|at| json!({ "type": "string", "pattern": format!("^a{{{at},}}b.*c$") })).collect();
    for shape in [
        strict(deep),
        strict(json!({ "allOf": many })),
        strict(json!({ "enum": vec!["x".repeat(1_000); 600] })),
        strict(json!({ "$ref": "http://example.com/schema" })),
        strict(json!({ "$ref": "#/$defs/missing" })),
        strict(json!([1])),
        strict(json!({ "type": "sting" })),
        Shape::Regex("(".repeat(100_000)),
        Shape::Regex("[".to_string()),
        Shape::Lark(format!("start: {}", "(".repeat(50_000))),
        Shape::Lark("start: undefined_rule".to_string()),
        Shape::Lark(String::new()),
        Shape::Choice(Vec::new()),
        Shape::Choice(vec![String::new()]),
    ] {
        let started = std::time::Instant::now();
        let message = setting.refused(shape.clone());
        bounded(started);
        assert!(!message.contains('\n') && message.len() < 600, "{message}");
    }
    // What compiles all the same is followed in bounded time, or not at all.
    for shape in [
        strict(json!({ "type": "string", "pattern": "(((a{1,900}){1,900}){1,900})" })),
        Shape::Regex("(a{1,99999}){1,99999}".to_string()),
        Shape::Regex("(a|aa|b*)*c(a|b){500}".to_string()),
        Shape::Lark("start: start start | \"a\" |".to_string()),
    ] {
        let started = std::time::Instant::now();
        let Ok(mut matcher) = setting.grammars.compile(&Grammar::Shape(shape)) else { continue };
        for token in [u32::from(b'"'), u32::from(b'a'), u32::from(b'a'), u32::from(b'a')] {
            if matcher.allowed().is_ok_and(|allowed| allowed.allows(token)) && matcher.take(token).is_err() {
                break;
            }
        }
        bounded(started);
    }
}

#[test]
fn the_same_grammar_again_is_at_its_beginning() {
    let setting = setting();
    let grammar = Grammar::Shape(Shape::Regex("abc".to_string()));
    let mut first = setting.compile(&grammar);
    first.take(u32::from(b'a')).unwrap();
    let mut second = setting.compile(&grammar);
    assert!(second.allowed().unwrap().allows(u32::from(b'a')));
    assert!(!first.allowed().unwrap().allows(u32::from(b'a')));
}
