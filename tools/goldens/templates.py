"""Makes the golden prompts of tests/data/templates: transformers' apply_chat_template over templates of our own.

Usage: python tools/goldens/templates.py     (needs: pip install "transformers==5.23.0" "jinja2==3.1.6")

Each NAME.jinja there was written for these tests, in the output form of a model family. NAME.json holds the
conversations of CONVERSATIONS that make sense for it, with the prompt that transformers renders or the words with which
the template refuses. The engine's tests read every file, so a new template is a new .jinja file.
"""

import datetime
import json
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "templates"
NOW_UNIX_MS = 1_772_668_799_000  # 4 March 2026, 23:59:59 UTC, to catch a wrong time zone.

SPECIAL = {
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma": ("<bos>", "<eos>"),
    "phi": ("<|endoftext|>", "<|endoftext|>"),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "harmony": ("<|startoftext|>", "<|return|>"),
    "nemotron": ("<|begin_of_text|>", "<|eot_id|>"),
    "olmo2": ("<|endoftext|>", "<|endoftext|>"),
}


def says(role, content, **more):
    return {"role": role, "content": content, **more}


def calls(*functions, content=""):
    return says("assistant", content, tool_calls=[
        {"id": f"call{index:05}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(functions)
    ])


def tool(name, description, properties, required):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("weather", "Tells the weather <now> & \"soon\" — 天気.", {
        "city": {"type": "string", "description": "Where, e.g. Köln"},
        "days": {"type": "integer", "minimum": 1, "default": 1},
        "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
    }, ["city"]),
    tool("search", "Searches.", {
        "terms": {"type": "array", "items": {"type": "string"}}, "near": {"type": ["number", "null"]},
        "filter": {"type": "object", "properties": {"since": {"type": "string"}}, "required": []}, "fuzz": {"type": "number", "default": 1e-07},
    }, ["terms"]),
]
ONLY = {"constructs": ["one question", "several turns", "tools offered"]}  # The rest would say the same again.
SYSTEM, ASK = says("system", "Be brief."), says("user", "How warm is it in Köln?")
COLOGNE = ("weather", {"city": "Köln", "days": 2, "exact": 1.0, "note": "it's \"<b>\" & ü\n"})
FOUND = says("tool", "{\"celsius\": 21.5}", tool_call_id="call00000", name="weather")
GO_ON = {"add_generation_prompt": False, "continue_final_message": True}
THOUGHT = says("assistant", "<think>\nA sum.\n\nFour.\n</think>\n\nFour.")

CONVERSATIONS = {
    "one question": {"messages": [says("user", "Hi!")]},
    "a question with instructions": {"messages": [SYSTEM, ASK]},
    "several turns": {"messages": [SYSTEM, ASK, says("assistant", " 21 °C.\n"), says("user", "\n And in Rome? ")]},
    "no generation prompt": {"messages": [ASK, says("assistant", "21 °C.")], "add_generation_prompt": False},
    "letters of the world": {"messages": [says("user", "Grüße 👩‍🚀 日本語 e\u0301 \u00ad\u200b {{ x }} {% y %} </s>\ttab \\n \"q\"")]},
    "blank lines": {"messages": [says("system", "\n\n a \n"), says("user", "b\n\n"), says("assistant", ""), says("user", " ")]},
    "thinking on": {"messages": [ASK], "arguments": {"enable_thinking": True, "thinking": True}},
    "thinking off": {"messages": [ASK], "arguments": {"enable_thinking": False, "thinking": False}},
    "past reasoning": {"messages": [says("user", "2+2?"), THOUGHT, says("user", "Sure?")]},
    "reasoning in a field": {"messages": [says("user", "2+2?"), says("assistant", "Four.", reasoning_content="\nA sum.\n")], "add_generation_prompt": False},
    "tools offered": {"messages": [SYSTEM, ASK], "tools": TOOLS},
    "tools offered without instructions": {"messages": [ASK], "tools": TOOLS[:1]},
    "a call": {"messages": [SYSTEM, ASK, calls(COLOGNE)], "tools": TOOLS, "add_generation_prompt": False},
    "a call and its result": {"messages": [SYSTEM, ASK, calls(COLOGNE), FOUND], "tools": TOOLS},
    "a call, its result and more": {"messages": [ASK, calls(COLOGNE), FOUND, says("assistant", "Warm."), ASK], "tools": TOOLS},
    "two calls": {"messages": [ASK, calls(COLOGNE, ("search", {"terms": [], "near": None, "deep": {"a": [True, {}]}}), content="I look."), FOUND,
                               says("tool", "[]", tool_call_id="call00001")], "tools": TOOLS},
    "thinking between calls": {"messages": [ASK, {**calls(COLOGNE), "reasoning_content": "Look it up."}, FOUND], "tools": TOOLS},
    "contents in parts": {"messages": [says("system", [{"type": "text", "text": "See."}]),
                                       says("user", [{"type": "image"}, {"type": "text", "text": " What? "}])]},
    "turns that do not alternate": {"messages": [says("user", "a"), says("user", "b")]},
    "an unknown role": {"messages": [says("user", "a"), says("narrator", "b")]},
    "an answer begun": {"messages": [SYSTEM, ASK, says("assistant", "It is")], **GO_ON},
    "an answer begun with a space": {"messages": [ASK, says("assistant", " It is \n")], **GO_ON},
    "an answer begun with nothing": {"messages": [ASK, says("assistant", "")], **GO_ON},
    "an answer begun with a thought": {"messages": [ASK, says("assistant", "<think>\nLet me")], **GO_ON},
    "an answer begun after a thought": {"messages": [ASK, says("assistant", "<think>A sum.</think>Four")], **GO_ON},
    "an answer begun like the question": {"messages": [says("user", "Four"), says("assistant", "Four")], **GO_ON},
    "an answer begun after a thought in a field": {"messages": [ASK, says("assistant", "Four", reasoning_content="A sum.")], **GO_ON},
    "an answer begun after a call": {"messages": [ASK, calls(COLOGNE), FOUND, says("assistant", "Warm, with")], "tools": TOOLS, **GO_ON},
    "a date given": {"messages": [ASK], "arguments": {"date_string": "1 Jan 2020"}},
}


class Now(datetime.datetime):
    """The datetime that templates see."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW_UNIX_MS / 1000, datetime.timezone.utc)


def render(tokenizer, conversation):
    """The prompt, the words of a template that refuses, or that it rewrites what is to be continued; None where it cannot cope."""
    try:
        prompt = tokenizer.apply_chat_template(
            conversation["messages"], tools=conversation.get("tools"), tokenize=False,
            add_generation_prompt=conversation.get("add_generation_prompt", True),
            continue_final_message=conversation.get("continue_final_message", False), **conversation.get("arguments", {}))
        return {"prompt": prompt}
    except TemplateError as error:
        # An error of the language has a class of its own; only raise_exception makes the plain one.
        return {"refused": str(error)} if type(error) is TemplateError else None
    except TypeError:
        return None
    except ValueError:
        return {"rewritten": True}


def main():
    chat_template_utils.datetime = Now
    for path in sorted(OUT.glob("*.jinja")):
        bos, eos = SPECIAL.get(path.stem, ("<s>", "</s>"))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({bos: 0, eos: 1, "?": 2}, "?")), bos_token=bos, eos_token=eos)
        tokenizer.chat_template = path.read_text()
        cases = []
        wanted = ONLY.get(path.stem, list(CONVERSATIONS))
        for name, conversation in ((name, CONVERSATIONS[name]) for name in wanted):
            if (outcome := render(tokenizer, conversation)) is not None:
                cases.append({"name": name, **conversation, **outcome})
        golden = {"bos_token": bos, "eos_token": eos, "now_unix_ms": NOW_UNIX_MS, "cases": cases}
        path.with_suffix(".json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
        skipped = [name for name in wanted if name not in {case["name"] for case in cases}]
        print(f"{path.stem}: {len(cases)} prompts; cannot cope with: {', '.join(skipped) or 'nothing missing'}")


if __name__ == "__main__":
    main()
