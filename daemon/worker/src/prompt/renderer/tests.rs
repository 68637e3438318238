//! Templates that take time, memory and the process itself; each costs one rendering.

use serde_json::{Map, json};

use super::*;
use crate::tests::kit::Folder;

const LIMITS: Limits = Limits { time: Duration::from_millis(600), bytes: 48 << 20 };

/// Does what the conversation asks of it.
const TEMPLATE: &str = "{%- set ns = namespace(x='x' * 1000) -%}
{%- macro deeper() -%}{{ deeper() }}{%- endmacro -%}
{%- if messages[0] == 'double' -%}{%- for i in range(60) -%}{%- set ns.x = ns.x ~ ns.x -%}{%- endfor -%}
{%- elif messages[0] == 'capture' -%}{%- set x -%}{%- for i in range(90000) -%}{{ ns.x }}{%- endfor -%}{%- endset -%}
{%- elif messages[0] == 'work' -%}{%- for i in range(90000) -%}{%- set ns.y = (ns.x * 1000).upper() -%}{%- endfor -%}
{%- elif messages[0] == 'count' -%}{%- for i in range(90000) -%}{%- for j in range(90000) -%}{{ j }}{%- endfor -%}{%- endfor -%}
{%- elif messages[0] == 'nest' -%}{%- for i in range(99999) -%}{%- set ns.x = [ns.x] -%}{%- endfor -%}{{ ns.x }}
{%- elif messages[0] == 'recurse' -%}{{ deeper() }}
{%- elif messages[0] == 'refuse' -%}{{ raise_exception('No.') }}
{%- else -%}<{{ messages[0] }}>{%- endif -%}";

fn ask(what: &str) -> ToRender {
    let (messages, arguments) = (json!([what]), Map::new());
    let (add_generation_prompt, continue_final_message) = (true, false);
    ToRender { messages, tools: None, add_generation_prompt, continue_final_message, arguments, now_unix_ms: 0 }
}

#[test]
fn whatever_a_template_does_the_next_conversation_is_rendered() {
    let folder = Folder::new("renderer", |recipe| recipe).with_template(TEMPLATE);
    let mut rendering = folder.renderer(LIMITS).rendering();
    let cases = [
        ("double", "more than 48 MiB of memory"),
        ("capture", "more than 48 MiB of memory"),
        ("work", "did not come to an end within 0.6 s"),
        ("count", "come to an end"),
        ("nest", "crashed the process that renders it"),
        ("recurse", "recursion limit"),
        ("refuse", "refuses the conversation: No."),
    ];
    for (what, words) in cases {
        let error = rendering.render(ask(what)).unwrap_err().to_string();
        assert!(error.contains(words), "{what}: {error}");
        assert_eq!(rendering.render(ask("Hi")).unwrap(), "<Hi>", "after {what}");
    }
}

#[test]
fn a_template_that_is_hostile_while_it_compiles_is_refused() {
    let folder = Folder::new("constants", |recipe| recipe).with_template(&"{{ 'x' * 99999999 }}".repeat(1000));
    let error = folder.renderer(LIMITS).rendering().start().unwrap_err();
    assert!(matches!(error, RenderError::Large(_)), "{error}");
}

#[test]
fn a_process_that_was_killed_while_it_was_idle_costs_nobody_anything() {
    let folder = Folder::new("killed", |recipe| recipe).with_template(TEMPLATE);
    let mut rendering = folder.renderer(LIMITS).rendering();
    rendering.start().unwrap();
    let kill = |rendering: &mut Rendering| {
        let child = &mut rendering.process.as_mut().unwrap().child;
        child.kill().unwrap();
        child.wait().unwrap();
    };
    kill(&mut rendering);
    assert_eq!(rendering.render(ask("Hi")).unwrap(), "<Hi>");
    kill(&mut rendering);
    assert!(rendering.try_grammar("start: \"x\"").is_ok());
}

#[test]
fn a_program_that_is_not_there_is_named_as_a_defect() {
    let folder = Folder::new("programless", |recipe| recipe);
    let renderer = Renderer::new(Path::new("/nowhere/impetus-worker"), folder.path(), LIMITS);
    let error = Error::from(renderer.rendering().start().unwrap_err());
    assert_eq!(error.kind, protocol::ErrorKind::Internal);
}
