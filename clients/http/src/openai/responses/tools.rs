//! The tools of a response: the functions that its client runs, each offered under one name.
//!
//! Functions may stand in namespaces, as coding agents send those of MCP servers. No template knows namespaces, so the model
//! is offered such a function under a flat name, and its calls are told to the client, and read back, under both. What has
//! no name would have to be run by this bridge and is not offered; what has one and is called with free text is refused.
//! `request` reads tools, `input` and `writer` the names of calls. Pure.

use std::collections::HashMap;

use protocol::generation::{Json, Tool};
use protocol::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body::{accept_only, part};
use crate::turns::append;

/// The functions of namespaces, each as its client calls it, by the names they are offered under.
pub type Names = HashMap<String, (String, String)>;

/// The functions among the tools of a request.
#[derive(Default)]
pub struct Tools {
    /// As the model is offered them.
    pub offered: Vec<Tool>,
    /// As the response repeats them.
    pub shown: Vec<Value>,
    /// Their names, and whether each is made of a namespace's.
    names: HashMap<String, bool>,
}

#[derive(Debug, Deserialize)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct NamespaceBody {
    name: String,
    description: Option<String>,
    tools: Vec<Map<String, Value>>,
}

impl Tools {
    /// Reads the tools of a request.
    pub fn read(bodies: Vec<Map<String, Value>>) -> Result<Self> {
        let mut tools = Self::default();
        for (at, mut body) in bodies.into_iter().enumerate() {
            let at = format!("tools[{at}]");
            match kind(&at, &mut body)?.as_str() {
                "function" => {
                    let tool = function(&at, body)?;
                    tools.shown.push(shown(&tool));
                    tools.offer(&at, tool, false)?;
                }
                "namespace" => tools.namespace(&at, part(&at, body)?)?,
                kind => run_elsewhere(&at, kind, &body)?,
            }
        }
        Ok(tools)
    }

    fn namespace(&mut self, at: &str, NamespaceBody { name, description, tools }: NamespaceBody) -> Result<()> {
        let mut members = Vec::new();
        for (index, mut body) in tools.into_iter().enumerate() {
            let at = format!("{at}.tools[{index}]");
            let kind = kind(&at, &mut body)?;
            if kind != "function" {
                run_elsewhere(&at, &kind, &body)?;
                continue;
            }
            let mut tool = function(&at, body)?;
            members.push(shown(&tool));
            tool.name = flat(Some(&name), &tool.name);
            // What is said of all of them is said once, with the first that the model reads.
            if let (1, Some(mut said)) = (members.len(), description.clone()) {
                append(&mut said, &tool.description.unwrap_or_default());
                tool.description = Some(said);
            }
            self.offer(&at, tool, true)?;
        }
        if !members.is_empty() {
            let shown = json!({ "type": "namespace", "name": name, "description": description, "tools": members });
            self.shown.push(shown);
        }
        Ok(())
    }

    /// Adds a function whose name may be made of a namespace's; it must not hide another, nor be hidden.
    fn offer(&mut self, at: &str, tool: Tool, made: bool) -> Result<()> {
        if self.names.insert(tool.name.clone(), made).is_some_and(|other| other || made) {
            let message = format!("'{at}' is called '{}' here, as another of the tools is.", tool.name);
            return Err(Error::invalid(format!("{at}.name"), message));
        }
        self.offered.push(tool);
        Ok(())
    }
}

/// Returns the name under which a function is offered.
pub fn flat(namespace: Option<&str>, name: &str) -> String {
    match namespace.map(|namespace| namespace.trim_end_matches('_')).filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{namespace}__{name}"),
        None => name.to_owned(),
    }
}

/// Returns how the functions of namespaces are called, of the tools that a response repeats.
pub fn names(shown: &Value) -> Names {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let named = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let namespaces = list(shown).into_iter().filter(|tool| tool["type"] == "namespace");
    let members =
        namespaces.flat_map(|space| list(&space["tools"]).into_iter().map(move |tool| (named(&space), named(&tool))));
    members.map(|(space, name)| (flat(Some(&space), &name), (space, name))).collect()
}

/// Takes the type out of a tool.
fn kind(at: &str, body: &mut Map<String, Value>) -> Result<String> {
    match body.remove("type") {
        Some(Value::String(kind)) => Ok(kind),
        _ => Err(Error::invalid(format!("{at}.type"), format!("'{at}' has no 'type'."))),
    }
}

/// Passes over kinds of tools that a service runs itself, which have no name; what has one would be called, and cannot be.
fn run_elsewhere(at: &str, kind: &str, body: &Map<String, Value>) -> Result<()> {
    if !body.contains_key("name") {
        return Ok(());
    }
    let message = format!("'{at}' is of type '{kind}'; of the tools with a name only functions can be called here.");
    Err(Error::unsupported(format!("{at}.type"), message))
}

fn function(at: &str, mut body: Map<String, Value>) -> Result<Tool> {
    for (name, usual) in [("allowed_callers", json!(["direct"])), ("defer_loading", json!(false))] {
        accept_only(&format!("{at}.{name}"), body.remove(name).as_ref(), &[usual])?;
    }
    let FunctionBody { name, description, parameters, strict } = part(at, body)?;
    let parameters = parameters.map(|schema| Json(schema.to_string()));
    Ok(Tool { name, description, parameters, strict: strict == Some(true) })
}

/// Returns a function as the response repeats it.
fn shown(tool: &Tool) -> Value {
    let parameters = tool.parameters.as_ref().and_then(|schema| serde_json::from_str(&schema.0).ok());
    json!({
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters.unwrap_or(Value::Null),
        "strict": tool.strict,
    })
}
