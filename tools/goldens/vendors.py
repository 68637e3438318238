"""Compares the prompts of vendors' own chat templates with those of transformers' apply_chat_template.

Usage: python tools/goldens/vendors.py FOLDER [NAME ...]     (needs: pip install "transformers==5.23.0" "jinja2==3.1.6")

FOLDER holds *.jinja files as vendors publish them; llama.cpp's source has a collection under models/templates. They are
their authors' and stay out of this repository, so this runs by hand and not in `make test`. Every template renders every
conversation of templates.py twice: by transformers, and by `impetus-worker render`, the process that serves. What both
refuse in the same words, or both cannot render, agrees too; where Python raises and ours renders, as for a loop over tools
that are not given, there is no prompt to compare with. Prints each difference and, last, how many agreed.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from templates import ASK, COLOGNE, CONVERSATIONS, FOUND, NOW_UNIX_MS, SYSTEM, TOOLS, Now, calls, says

ROOT = Path(__file__).resolve().parents[2]
BOS, EOS = "<s>", "</s>"
KINDS = ["prompt", "raised", "failed", "ours alone"]
REFUSES = "the model's chat template refuses the conversation: "

# Turns that only some families know; the others refuse them, in their own words.
MORE = {
    "reasoning under other names": {"messages": [says("user", "2+2?"), says("assistant", "Four.", reasoning="A sum.", thinking="A sum."), says("user", "Sure?")]},
    "calls and results over turns": {"messages": [SYSTEM, ASK, calls(COLOGNE), FOUND, says("assistant", "Warm."), ASK, calls(COLOGNE), FOUND], "tools": TOOLS},
    "low effort": {"messages": [ASK], "arguments": {"reasoning_effort": "low"}},
    "no reasoning": {"messages": [says("system", "/no_think"), ASK], "arguments": {"enable_thinking": False}},
    "an answer to go on with": {"messages": [ASK, says("assistant", "It is")], "add_generation_prompt": False},
    "parts everywhere": {"messages": [says("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
                                      says("assistant", [{"type": "text", "text": "c"}]), says("user", [{"type": "text", "text": "d"}])]},
    "a long talk": {"messages": [SYSTEM] + [says(role, f"{role} {turn}\n") for turn in range(20) for role in ("user", "assistant")] + [ASK]},
}


def of_transformers(tokenizer, conversation):
    try:
        return {"prompt": tokenizer.apply_chat_template(
            conversation["messages"], tools=conversation.get("tools"), tokenize=False,
            add_generation_prompt=conversation.get("add_generation_prompt", True),
            continue_final_message=conversation.get("continue_final_message", False), **conversation.get("arguments", {}))}
    except TemplateError as error:
        # An error of the language has a class of its own; only raise_exception makes the plain one.
        return {"raised": str(error)} if type(error) is TemplateError else {"failed": f"{type(error).__name__}: {error}"}
    except Exception as error:  # Whatever Python raises inside a template.
        return {"failed": f"{type(error).__name__}: {error}"}


def with_reasoning(message):
    """Past reasoning under the names by which transformers, and the worker's `habits.rs`, give it to a template."""
    reasoning = next((message[key] for key in ("reasoning_content", "thinking", "reasoning") if message.get(key) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


class Renderer:
    """Our process for one template."""

    def __init__(self, program, template):
        self.folder = tempfile.TemporaryDirectory()
        home = Path(self.folder.name)
        (home / "chat_template.jinja").write_text(template)
        (home / "tokenizer_config.json").write_text(json.dumps({"bos_token": BOS, "eos_token": EOS}))
        self.process = subprocess.Popen([program, "render", home], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ready = self.read()

    def read(self):
        head = self.process.stdout.read(4)
        if len(head) < 4:
            return {"failed": f"the process ended with {self.process.wait()}"}
        return json.loads(self.process.stdout.read(struct.unpack("<I", head)[0]))

    def render(self, conversation):
        if self.ready != "ready":
            return self.ready
        ask = {"messages": [with_reasoning(message) for message in conversation["messages"]], "tools": conversation.get("tools"), "now_unix_ms": NOW_UNIX_MS,
               "add_generation_prompt": conversation.get("add_generation_prompt", True), "continue_final_message": conversation.get("continue_final_message", False),
               "arguments": conversation.get("arguments", {})}
        body = json.dumps({"render": ask}).encode()
        self.process.stdin.write(struct.pack("<I", len(body)) + body)
        self.process.stdin.flush()
        told = self.read()
        return {"raised": told["raised"].removeprefix(REFUSES)} if "raised" in told else told

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def agree(theirs, ours):
    return theirs == ours or ("failed" in theirs and "failed" in ours)


def shown(outcome, other):
    """An outcome from shortly before the place where it differs from the other."""
    (kind, text), = outcome.items()
    same = len(os.path.commonprefix([text, next(iter(other.values()))]))
    return f"{kind} …{text[max(0, same - 40):same + 80]!r}" if kind == "prompt" else f"{kind} {text!r}"


def differences(program, path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({BOS: 0, EOS: 1, "?": 2}, "?")), bos_token=BOS, eos_token=EOS)
    tokenizer.chat_template = path.read_text()
    renderer = Renderer(program, path.read_text())
    kinds = dict.fromkeys(KINDS, 0)
    for name, conversation in (CONVERSATIONS | MORE).items():
        theirs, ours = of_transformers(tokenizer, conversation), renderer.render(conversation)
        if agree(theirs, ours):
            kinds[next(iter(theirs))] += 1
        elif "failed" in theirs and "prompt" in ours:
            kinds["ours alone"] += 1
        else:
            yield f"{path.stem}, {name}:\n  theirs {shown(theirs, ours)}\n  ours   {shown(ours, theirs)}"
    renderer.close()
    yield kinds


def main():
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    program = os.environ.get("IMPETUS_WORKER", str(ROOT / "target" / "debug" / "impetus-worker"))
    chat_template_utils.datetime = Now
    total, differing, whole = dict.fromkeys(KINDS, 0), 0, 0
    paths = [path for path in sorted(folder.glob("*.jinja")) if not wanted or path.stem in wanted]
    for path in paths:
        *found, kinds = differences(program, path)
        print("\n".join([*found, f"{path.stem}: {sum(kinds.values()) - kinds['ours alone']} agree, {len(found)} differ"]), flush=True)
        total = {kind: total[kind] + kinds[kind] for kind in total}
        differing, whole = differing + len(found), whole + (not found)
    print(f"{len(paths)} templates, {whole} of them without a difference; {total['prompt']} equal prompts, {total['raised']} equal "
          f"refusals, {total['failed']} that neither can render, {total['ours alone']} that only ours renders, {differing} differences")


if __name__ == "__main__":
    main()
