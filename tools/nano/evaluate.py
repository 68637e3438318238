"""The held-out score of a model folder: greedy answers of the quantized weights on values never shown in training.

    python evaluate.py FOLDER            prints the score
    python evaluate.py FOLDER --ask TEXT answers one prompt
"""
import argparse
import json
import random

import calls
import data
import export
import facts
import talk
from about import TOPICS
from generate import greedy
from render import pieces
from words import Words

SEED, LIMIT = 977, 128


def questions(count: int) -> list[data.Sample]:
    """Held-out conversations that end with the assistant's reference answer."""
    words = Words(random.Random(SEED), held_out=True)
    samples = []
    for _ in range(count):
        samples.append(data.Sample("one fact of a context", *facts.extraction(words, 1, 0, 1)))
        samples.append(data.Sample("fact among several", *facts.extraction(words, words.rng.randint(3, 6), 1, 1)))
        samples.append(data.Sample("JSON from a text", *facts.json_form(words, 1)))
        messages, tools, expected = calls.conversation(words, answer_too=False)
        samples.append(data.Sample("tool call", messages, expected, tools))
        messages, tools, expected = calls.conversation(words, answer_too=True)
        samples.append(data.Sample("answer from a tool result", messages, expected, tools))
        samples.append(data.Sample("memory over turns", *talk.memory(words)))
        samples.append(data.Sample("echo", *talk.echo(words, 1)))
        samples.append(data.Sample("question it cannot answer", talk.unknown(words), "impetusctl pull"))
    for topic in TOPICS:
        if len(topic.questions) >= 4:
            samples.append(data.Sample("Impetus, new phrasing", [{"role": "user", "content": topic.questions[-1]}, {"role": "assistant", "content": topic.answer}], " ".join(topic.keywords)))
        samples.append(data.Sample("Impetus, known phrasing", [{"role": "user", "content": topic.questions[0]}, {"role": "assistant", "content": topic.answer}], " ".join(topic.keywords)))
    return samples


def parsed(text: str):
    """The value of a JSON text or of a tool call's JSON; None where it is invalid."""
    try:
        return json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    except ValueError:
        return None


def right(sample: data.Sample, answer: str) -> bool:
    """Whether an answer is right, by the rule of its form."""
    if sample.form == "JSON from a text":
        return parsed(answer) == parsed(sample.expected)
    if sample.form == "tool call":
        return answer.startswith("<tool_call>\n") and answer.endswith("\n</tool_call>") and parsed(answer) == parsed(sample.expected)
    if sample.form.startswith("Impetus"):
        return all(word.lower() in answer.lower() for word in sample.expected.split())
    if sample.form == "echo":
        return answer == sample.expected
    return sample.expected in answer


def answers(folder, samples: list[data.Sample]) -> list[tuple[str, bool]]:
    """The decoded answer to each sample's last turn, and whether the model ended it."""
    config, params, tokenizer = export.load(folder)
    end = tokenizer.token_to_id("<|im_end|>")
    prompts = ["".join(text for text, _ in pieces(s.messages[:-1] if s.messages[-1]["role"] == "assistant" else s.messages, s.tools, generate=True)) for s in samples]
    said = greedy(params, config, [tokenizer.encode(p, add_special_tokens=False).ids for p in prompts], LIMIT, end)
    return [(tokenizer.decode([i for i in ids if i != end], skip_special_tokens=False), ids[-1] == end) for ids in said]


def score(folder, count: int = 150, failures: int = 0) -> dict:
    """Prints and returns share and count by form."""
    samples = questions(count)
    results, shown = {}, {}
    for sample, (answer, ended) in zip(samples, answers(folder, samples)):
        good = right(sample, answer)
        results.setdefault(sample.form, []).append(good)
        results.setdefault("ends its turn", []).append(ended)
        if sample.form in ("JSON from a text", "tool call"):
            results.setdefault(f"valid: {sample.form}", []).append(parsed(answer) is not None)
        if not good and shown.get(sample.form, 0) < failures:
            shown[sample.form] = shown.get(sample.form, 0) + 1
            print(f"--- {sample.form}\n{sample.messages[-2]['content'][-400:]}\n>>> {answer}\n(expected {sample.expected})")
    table = {name: {"score": round(sum(values) / len(values), 4), "count": len(values)} for name, values in results.items()}
    for name, entry in table.items():
        print(f"{name:28} {entry['score']:.3f} of {entry['count']}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--ask", action="append", help="answer this prompt and stop")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--failures", type=int, default=0, help="show so many wrong answers of each form")
    arguments = parser.parse_args()
    if arguments.ask:
        asked = [data.Sample("ask", [{"role": "user", "content": text}]) for text in arguments.ask]
        for text, (answer, _) in zip(arguments.ask, answers(arguments.folder, asked)):
            print(f"> {text}\n{answer}\n")
    else:
        score(arguments.folder, arguments.count, arguments.failures)
