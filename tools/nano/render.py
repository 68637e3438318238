"""Chat text: the committed chat template in plain Python, with a mark on what the assistant says.

`train.py` checks that the two agree on generated conversations, so training text and served prompts cannot drift apart.
"""
import json

import jinja2

SYSTEM = "You are Impetus Nano, a tiny demo model."
TEMPLATE = """{%- set ns = namespace(system='""" + SYSTEM + """', first=0) -%}
{%- if messages and messages[0].role in ('system', 'developer') -%}
{%- set ns.system = messages[0].content -%}{%- set ns.first = 1 -%}
{%- endif -%}
{{- '<|im_start|>system\\n' + ns.system -}}
{%- if tools -%}
{{- '\\n\\n# Tools\\nYou can call these functions:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' -}}{{- tool | tojson -}}{%- endfor -%}
{{- '\\n</tools>\\nTo call one, write:\\n<tool_call>\\n{"name": NAME, "arguments": {...}}\\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for message in messages[ns.first:] -%}
{%- if message.role == 'tool' -%}
{%- if loop.first or loop.previtem.role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
{{- '\\n<tool_response>\\n' -}}{{- message.content -}}{{- '\\n</tool_response>' -}}
{%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
{%- else -%}
{{- '<|im_start|>' + message.role + '\\n' -}}{{- message.content or '' -}}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- set call = call.function or call -%}
{%- if message.content or not loop.first -%}{{- '\\n' -}}{%- endif -%}
{{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' -}}
{%- if call.arguments is string -%}{{- call.arguments -}}{%- else -%}{{- call.arguments | tojson -}}{%- endif -%}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def tool_call(name: str, arguments: dict) -> str:
    """The text of one call, as the assistant writes it."""
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'


def pieces(messages: list[dict], tools: list[str] = (), generate: bool = False) -> list[tuple[str, bool]]:
    """The conversation as (text, said by the assistant) pairs; `tools` are JSON texts, contents are strings."""
    system, rest = SYSTEM, messages
    if messages[0]["role"] == "system":
        system, rest = messages[0]["content"], messages[1:]
    text = f"<|im_start|>system\n{system}"
    if tools:
        text += "\n\n# Tools\nYou can call these functions:\n<tools>" + "".join("\n" + tool for tool in tools)
        text += '\n</tools>\nTo call one, write:\n<tool_call>\n{"name": NAME, "arguments": {...}}\n</tool_call>'
    parts = [(text + "<|im_end|>\n", False)]
    for message in rest:
        if message["role"] == "assistant":
            parts += [("<|im_start|>assistant\n", False), (message["content"] + "<|im_end|>", True), ("\n", False)]
        elif message["role"] == "tool":
            parts.append((f"<|im_start|>user\n<tool_response>\n{message['content']}\n</tool_response><|im_end|>\n", False))
        else:
            parts.append((f"<|im_start|>user\n{message['content']}<|im_end|>\n", False))
    return parts + ([("<|im_start|>assistant\n", False)] if generate else [])


def check(samples) -> None:
    """Fails where the chat template and `pieces` differ on a conversation; tools keep the JSON text that was drawn."""
    environment = jinja2.Environment()
    environment.filters["tojson"] = lambda tool: tool
    template = environment.from_string(TEMPLATE)
    for sample in samples:
        text = "".join(text for text, _ in pieces(sample.messages, sample.tools, generate=True))
        rendered = template.render(messages=sample.messages, tools=sample.tools, add_generation_prompt=True)
        if rendered != text:
            raise ValueError(f"the chat template renders\n{rendered}\nand training uses\n{text}")
