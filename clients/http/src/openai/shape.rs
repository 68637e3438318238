//! Shapes of answers as OpenAI clients ask for them: `response_format`, and `structured_outputs`, `grammar` and `json_schema`
//! of other servers.

use protocol::Error;
use protocol::generation::{Constraint, Json};
use serde_json::{Map, Value};

use crate::body::only;
use crate::gbnf;

/// What a request says of the shape of its answer, under each of the names it may be asked for by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// OpenAI's.
    pub format: Option<&'a Value>,
    /// vLLM's.
    pub outputs: Option<&'a Value>,
    /// A grammar alone, as llama-server takes it.
    pub grammar: Option<&'a str>,
    /// A schema alone, as llama-server takes it.
    pub schema: Option<&'a Value>,
}

impl Asked<'_> {
    /// Under which name a shape was asked for.
    pub fn name(&self) -> &'static str {
        match self {
            Self { outputs: Some(_), .. } => "structured_outputs",
            Self { grammar: Some(_), .. } => "grammar",
            Self { schema: Some(_), .. } => "json_schema",
            _ => "response_format",
        }
    }
}

/// Returns what an answer is held to; a shape may be asked for under one name only.
pub fn constraint(asked: &Asked<'_>) -> Result<Option<Constraint>, Error> {
    let of_format = |format: &Value| {
        let format = renamed(format.clone());
        only("response_format", &format, &["type", "json_schema", "schema"])?;
        only("response_format.json_schema", &format["json_schema"], NAMED)?;
        of_format("response_format", &format, "response_format.json_schema", &format["json_schema"])
    };
    let schema = |schema: &Value| match schema {
        Value::Object(_) => Ok(Constraint::JsonSchema { schema: Json(schema.to_string()), strict: false }),
        _ => Err(Error::invalid("json_schema", "'json_schema' must be a JSON object.")),
    };
    let all = [
        asked.format.map(of_format).transpose()?.flatten(),
        asked.outputs.map(of_outputs).transpose()?,
        // Some clients send an empty one.
        asked.grammar.filter(|text| !text.is_empty()).map(|text| of_grammar("grammar", text)).transpose()?,
        asked.schema.map(schema).transpose()?,
    ];
    let mut given = all.into_iter().flatten();
    match (given.next(), given.next()) {
        (shape, None) => Ok(shape),
        (_, Some(_)) => {
            let name = asked.name();
            let message = format!("'{name}' and another member both ask for a shape; send one of them.");
            Err(Error::invalid(name, message))
        }
    }
}

/// Reads a grammar in either notation.
fn of_grammar(param: &str, text: &str) -> Result<Constraint, Error> {
    match gbnf::is_gbnf(text) {
        true => gbnf::lark(param, text).map(Constraint::Lark),
        false => Ok(Constraint::Lark(text.to_owned())),
    }
}

/// Calls `schema` what Hugging Face's client calls the `value` of an object, which is what it makes of every schema.
fn renamed(mut format: Value) -> Value {
    if let Some(members) = format.as_object_mut()
        && members.get("type").is_some_and(|kind| kind == "json_object")
        && members.get("schema").is_none_or(Value::is_null)
        && let Some(value) = members.remove("value")
    {
        members.insert("schema".to_owned(), value);
    }
    format
}

/// What a schema may come with: what it is called and what it is for change no answer.
pub const NAMED: &[&str] = &["name", "description", "schema", "strict"];

/// Returns what a format at `at` asks for; `named`, which stands at `there`, holds its schema, if it has one.
pub fn of_format(at: &str, format: &Value, there: &str, named: &Value) -> Result<Option<Constraint>, Error> {
    let kind = format!("{at}.type");
    match format["type"].as_str() {
        Some("text") => Ok(None),
        // Other servers' clients send the schema with this type.
        Some("json_object") if !format["schema"].is_null() => of_schema(at, format).map(Some),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => of_schema(there, named).map(Some),
        Some(other) => {
            let message = format!("'{kind}' cannot be '{other}'; it is text, json_object or json_schema.");
            Err(Error::invalid(kind, message))
        }
        None => Err(Error::invalid(kind, format!("'{at}' needs a 'type'."))),
    }
}

fn of_schema(at: &str, named: &Value) -> Result<Constraint, Error> {
    let strict = match &named["strict"] {
        Value::Null => false,
        Value::Bool(strict) => *strict,
        _ => return Err(Error::invalid(at, format!("'strict' in '{at}' must be true or false."))),
    };
    match &named["schema"] {
        schema @ Value::Object(_) => Ok(Constraint::JsonSchema { schema: Json(schema.to_string()), strict }),
        _ => {
            let schema = format!("{at}.schema");
            Err(Error::invalid(schema, format!("The schema of '{at}' must be a JSON object.")))
        }
    }
}

fn of_outputs(outputs: &Value) -> Result<Constraint, Error> {
    let none = Map::new();
    let mut members = outputs.as_object().unwrap_or(&none).iter().filter(|(_, value)| !value.is_null());
    let fault = |message: &str| Err(Error::invalid("structured_outputs", message));
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return fault("'structured_outputs' has exactly one of json, json_object, regex, choice and grammar.");
    };
    match (name.as_str(), value) {
        ("json", Value::Object(_)) => Ok(Constraint::JsonSchema { schema: Json(value.to_string()), strict: true }),
        // Some clients send the schema as text.
        ("json", Value::String(text)) => Ok(Constraint::JsonSchema { schema: Json(text.clone()), strict: true }),
        ("json_object", Value::Bool(true)) => Ok(Constraint::JsonObject),
        ("regex", Value::String(regex)) => Ok(Constraint::Regex(regex.clone())),
        ("grammar", Value::String(text)) => of_grammar("structured_outputs", text),
        ("choice", Value::Array(texts)) => {
            let texts: Option<Vec<String>> = texts.iter().map(|text| text.as_str().map(str::to_owned)).collect();
            texts.map(Constraint::Choice).map_or_else(|| fault("'structured_outputs.choice' is a list of texts."), Ok)
        }
        ("json" | "json_object" | "regex" | "choice" | "grammar", _) => {
            fault("A member of 'structured_outputs' has the wrong type.")
        }
        (other, _) => Err(Error::unsupported(
            format!("structured_outputs.{other}"),
            format!("'structured_outputs.{other}' is not supported here."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn format(format: Value) -> Result<Option<Constraint>, Error> {
        constraint(&Asked { format: Some(&format), ..Asked::default() })
    }

    fn outputs(outputs: Value) -> Result<Option<Constraint>, Error> {
        constraint(&Asked { outputs: Some(&outputs), ..Asked::default() })
    }

    fn schema(strict: bool) -> Constraint {
        Constraint::JsonSchema { schema: Json(r#"{"type":"object"}"#.into()), strict }
    }

    #[test]
    fn formats_become_constraints() {
        assert_eq!(format(json!({"type": "text"})).unwrap(), None);
        assert_eq!(format(json!({"type": "json_object"})).unwrap(), Some(Constraint::JsonObject));
        let named = |strict: Value| {
            format(json!({"type": "json_schema",
                          "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": strict}}))
        };
        assert_eq!(named(json!(true)).unwrap(), Some(schema(true)));
        assert_eq!(named(json!(false)).unwrap(), Some(schema(false)));
        assert_eq!(named(Value::Null).unwrap(), Some(schema(false)));
        let beside = format(json!({"type": "json_object", "schema": {"type": "object"}, "json_schema": null}));
        assert_eq!(beside.unwrap(), Some(schema(false)));
        let valued = format(json!({"type": "json_object", "value": {"type": "object"}}));
        assert_eq!(valued.unwrap(), Some(schema(false)), "as Hugging Face's client writes it");
    }

    #[test]
    fn other_servers_words_become_constraints() {
        assert_eq!(outputs(json!({"json": {"type": "object"}})).unwrap(), Some(schema(true)));
        assert_eq!(outputs(json!({"regex": "a+"})).unwrap(), Some(Constraint::Regex("a+".into())));
        assert_eq!(outputs(json!({"grammar": "start: \"a\""})).unwrap(), Some(Constraint::Lark("start: \"a\"".into())));
        let choice = Constraint::Choice(vec!["a".into(), "b".into()]);
        assert_eq!(outputs(json!({"choice": ["a", "b"], "regex": null})).unwrap(), Some(choice));
        assert_eq!(outputs(json!({"json_object": true})).unwrap(), Some(Constraint::JsonObject));
    }

    #[test]
    fn a_grammar_or_a_schema_may_stand_alone_and_a_grammar_be_in_either_notation() {
        let lark = |text: &str| Some(Constraint::Lark(text.into()));
        let (gbnf, written) = ("root ::= \"a\"", "start: T0\nT0: \"a\"\n");
        let grammar = |text| constraint(&Asked { grammar: Some(text), ..Asked::default() }).unwrap();
        assert_eq!([grammar(gbnf), grammar("start: \"a\""), grammar("")], [lark(written), lark("start: \"a\""), None]);
        assert_eq!(outputs(json!({"grammar": gbnf})).unwrap(), lark(written));
        let alone = json!({"type": "object"});
        assert_eq!(constraint(&Asked { schema: Some(&alone), ..Asked::default() }).unwrap(), Some(schema(false)));
    }

    #[test]
    fn what_is_no_shape_is_refused_by_name() {
        let param = |refused: Result<Option<Constraint>, Error>| refused.unwrap_err().param.unwrap_or_default();
        assert_eq!(param(format(json!({}))), "response_format.type");
        assert_eq!(param(format(json!({"type": "xml"}))), "response_format.type");
        assert_eq!(param(format(json!({"type": "json_schema"}))), "response_format.json_schema.schema");
        let named = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": 1}});
        assert_eq!(param(format(named)), "response_format.json_schema.schema");
        assert_eq!(param(format(json!({"type": "json_object", "schema": 123}))), "response_format.schema");
        assert_eq!(param(format(json!({"type": "text", "grammar": "x"}))), "response_format.grammar");
        assert_eq!(param(format(json!({"type": "text", "value": {}}))), "response_format.value");
        let twice = json!({"type": "json_object", "schema": {"type": "object"}, "value": {"type": "array"}});
        assert_eq!(param(format(twice)), "response_format.value");
        let extra = json!({"type": "json_schema", "json_schema": {"schema": {}, "regex": "x"}});
        assert_eq!(param(format(extra)), "response_format.json_schema.regex");
        assert_eq!(param(outputs(json!({}))), "structured_outputs");
        assert_eq!(param(outputs(json!({"regex": "a", "choice": ["a"]}))), "structured_outputs");
        assert_eq!(param(outputs(json!({"choice": [1]}))), "structured_outputs");
        assert_eq!(param(outputs(json!({"structural_tag": "x"}))), "structured_outputs.structural_tag");
        let (format, outputs) = (json!({"type": "json_object"}), json!({"regex": "a"}));
        let both = Asked { format: Some(&format), outputs: Some(&outputs), ..Asked::default() };
        assert_eq!(param(constraint(&both)), "structured_outputs");
        let both = Asked { grammar: Some("root ::= \"a\""), schema: Some(&json!({})), ..Asked::default() };
        assert_eq!(param(constraint(&both)), "grammar");
        assert_eq!(param(constraint(&Asked { schema: Some(&json!(1)), ..Asked::default() })), "json_schema");
    }
}
