"""Checks the exported folder against mlx-lm, an independent reader of the format: greedy answers must be equal.

    pip install 'mlx[cpu]==0.32.2' mlx-lm==0.32.2 && python verify.py FOLDER

Scales, biases and norms are widened to f32, as `evaluate.py` computes; the tokenizer and the chat template are those of
the folder, read by transformers and Jinja. `verify.py FOLDER --ours FILE` compares with what `--write FILE` of an
environment with JAX wrote.
"""
import argparse
import json


def prompts() -> list[dict]:
    """Held-out conversations of every form, cut before the last answer."""
    import evaluate
    return [{"messages": s.messages[:-1], "tools": [json.loads(t) for t in s.tools]} for s in evaluate.questions(5)]


def ours(folder: str) -> list[dict]:
    """The answers of this folder's own decoder."""
    import data
    import evaluate
    cases = prompts()
    samples = [data.Sample("", c["messages"], "", [json.dumps(t) for t in c["tools"]]) for c in cases]
    return [{**case, "answer": answer} for case, (answer, _) in zip(cases, evaluate.answers(folder, samples))]


def theirs(folder: str, cases: list[dict]) -> int:
    """Prints each difference to mlx-lm; returns how many there are."""
    import mlx.core as mx
    from mlx_lm import generate, load
    from mlx_lm.sample_utils import make_sampler
    model, tokenizer = load(folder)
    model.set_dtype(mx.float32)
    different = 0
    for case in cases:
        messages = case["messages"]
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        ids = tokenizer.apply_chat_template(messages, tools=case["tools"] or None, add_generation_prompt=True)
        answer = generate(model, tokenizer, ids, max_tokens=128, sampler=make_sampler(temp=0.0))
        if answer != case["answer"]:
            different += 1
            print(f"--- {messages[-1]['content'][-300:]}\nours:   {case['answer']}\nmlx-lm: {answer}")
    print(f"{len(cases) - different} of {len(cases)} answers are equal")
    return different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--write", help="only write our answers to this file")
    parser.add_argument("--ours", help="our answers, written before")
    arguments = parser.parse_args()
    if arguments.write:
        json.dump(ours(arguments.folder), open(arguments.write, "w"))
    else:
        cases = json.load(open(arguments.ours)) if arguments.ours else ours(arguments.folder)
        raise SystemExit(theirs(arguments.folder, cases) > 0)
