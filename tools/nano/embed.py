"""Trains impetus-nano-embed from nothing: pairs, tokenizer, contrastive training, quantization, export, held-out recall.

    python embed.py --out ../../daemon/engine/assets/impetus-nano-embed

Every query of a batch must find its own passage among all passages of the batch, and the reverse; so must the first 64 and
128 numbers of each vector, which is what makes shortened vectors useful (Matryoshka).
"""
import argparse
import json
import os
import queue
import random
import threading
import time
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

import embed_pairs
import export
from embed_model import Config, init, unit, vectors
from words import Words

BATCH, RATE, WARMUP, TEMPERATURE, BITS = 128, 2e-3, 50, 0.05, 8
DIMENSIONS = [256, 128, 64]
HELD_OUT = 1000


def loss(params, config, queries, passages):
    """Cross-entropy of finding each other within the batch, over every length of vector."""
    q, p = vectors(params, config, queries), vectors(params, config, passages)
    total = 0.0
    for dimensions in DIMENSIONS:
        scores = unit(q, dimensions) @ unit(p, dimensions).T / TEMPERATURE
        own = jnp.diagonal(scores)
        total += jnp.mean(jax.nn.logsumexp(scores, 1) - own) + jnp.mean(jax.nn.logsumexp(scores, 0) - own)
    return total / (2 * len(DIMENSIONS))


def make_step(config):
    @jax.jit
    def step(params, state, queries, passages, rate, index):
        value, gradients = jax.value_and_grad(loss)(params, config, queries, passages)
        fresh, moments = {}, {}
        for name, old in params.items():
            first = 0.9 * state[name][0] + 0.1 * gradients[name]
            second = 0.98 * state[name][1] + 0.02 * gradients[name] ** 2
            scaled = (first / (1 - 0.9**index)) / (jnp.sqrt(second / (1 - 0.98**index)) + 1e-8)
            decay = 0.01 * old if old.ndim == 2 else 0.0
            fresh[name], moments[name] = old - rate * (scaled + decay), (first, second)
        return fresh, moments, value

    return step


def batches(tokenizer, seed, steps):
    """Batches in order, made ahead by one thread."""
    ready = queue.Queue(maxsize=8)

    def produce():
        for index in range(steps):
            ready.put(embed_pairs.batch(tokenizer, seed, index, BATCH))

    threading.Thread(target=produce, daemon=True).start()
    for index in range(steps):
        yield index, ready.get()


def train(config, tokenizer, seed: int, steps: int) -> tuple[dict, dict]:
    """Runs the training; returns parameters and facts about the run."""
    params = init(config, jax.random.key(seed))
    state = {name: (jnp.zeros_like(value), jnp.zeros_like(value)) for name, value in params.items()}
    step, start, recent = make_step(config), time.time(), []
    for index, (queries, passages) in batches(tokenizer, seed, steps):
        rate = RATE * min((index + 1) / WARMUP, 1.0) * (0.5 + 0.5 * np.cos(np.pi * index / steps))
        params, state, value = step(params, state, queries, passages, rate, index + 1.0)
        recent.append(value)
        if index % 50 == 49:
            print(f"step {index + 1}/{steps} loss {np.mean([float(v) for v in recent]):.4f} {time.time() - start:.0f} s", flush=True)
            recent = []
    return params, {"steps": steps, "pairs": steps * BATCH, "seconds": round(time.time() - start), "seed": seed}


def quantized(params: dict) -> tuple[dict, dict]:
    """The tensors of the file, and the numbers that they stand for."""
    tensors, meant = {}, {}
    for name, value in sorted(params.items()):
        value = np.asarray(value)
        if value.ndim == 1:
            tensors[name] = value.astype(ml_dtypes.bfloat16)
            meant[name] = tensors[name].astype(np.float32)
            continue
        packed = export.quantize(value, BITS)
        for suffix, part in zip(("weight", "scales", "biases"), packed):
            tensors[name.removesuffix("weight") + suffix] = np.ascontiguousarray(part)
        meant[name] = export.dequantize(*packed, BITS)
    return tensors, meant


def recall(config, params, tokenizer, seed: int) -> dict:
    """How often a held-out question finds its own passage among HELD_OUT; beside it, counting shared words."""
    words = Words(random.Random(seed + 1), held_out=True)
    drawn = embed_pairs.pairs(words, HELD_OUT)
    queries, passages = map(list, zip(*drawn))
    params = {name: jnp.asarray(value) for name, value in params.items()}
    run = jax.jit(lambda tokens: vectors(params, config, tokens))
    q = np.concatenate([run(embed_pairs.encode(tokenizer, queries[at : at + 100], 64)) for at in range(0, HELD_OUT, 100)])
    p = np.concatenate([run(embed_pairs.encode(tokenizer, passages[at : at + 100], 128)) for at in range(0, HELD_OUT, 100)])
    result = {str(d): ranks(np.asarray(unit(q, d) @ unit(p, d).T)) for d in DIMENSIONS}
    bags = [set(text.lower().replace(".", " ").replace("?", " ").split()) for text in passages]
    frequency = {word: sum(word in bag for bag in bags) for bag in bags for word in bag}
    weigh = lambda text, bag: sum(np.log(HELD_OUT / frequency[w]) for w in set(text.lower().replace("?", " ").split()) & bag) / (len(bag) ** 0.5)
    result["shared words"] = ranks(np.array([[weigh(query, bag) for bag in bags] for query in queries]))
    return result


def ranks(scores: np.ndarray) -> dict:
    own = np.diagonal(scores)[:, None]
    rank = (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return {f"recall@{k}": round(float((rank < k).mean()), 3) for k in (1, 5)}


def settings(config: Config) -> dict[str, dict]:
    """The JSON files of the folder."""
    quantization = {"group_size": export.GROUP, "bits": BITS, "mode": "affine"}
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    return {
        "config.json": {
            "architectures": ["NomicBertModel"], "model_type": "nomic_bert", **vars(config), "type_vocab_size": 0, "hidden_act": "silu",
            "torch_dtype": "bfloat16", "quantization": quantization, "quantization_config": quantization,
        },
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": embed_pairs.PAD, "model_max_length": config.max_position_embeddings},
        "modules.json": [{"idx": int(n), "name": n, "path": path, "type": f"sentence_transformers.models.{kind}"} for n, path, kind in modules],
        "1_Pooling/config.json": {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True},
    }


CARD = """---
license: apache-2.0
library_name: mlx
pipeline_tag: sentence-similarity
---
# impetus-nano-embed

**A demo, not a search engine.** {parameters:.2f} million parameters in the nomic-bert architecture, MLX 8-bit (group 64), vectors of
256 numbers that may be shortened to 128 or 64. It comes with Impetus so that embeddings work without a network. It finds a text by its
words and by simple questions about it; it knows no synonyms beyond its few training forms, lower-cases everything and knows English only.
For work, `impetusctl pull nomic-ai/nomic-embed-text-v1.5`.

## Training

From nothing, by `tools/nano/embed.py`, on pairs that the script generates itself; no other data. Seed {seed}, {steps} steps,
{pairs:,} pairs, {seconds} s on two busy CPU cores at low priority. Contrastive, in batches of {batch}, with Matryoshka losses at 256, 128 and 64.
Texts in training end at 48 tokens; up to {positions} are accepted.

## Held-out recall

{count} questions with names, numbers and codes that training never showed; each must find its own passage among all {count}, by the
quantized weights. "Shared words" ranks by the shared words' rarity instead, without any model.

| vector | recall@1 | recall@5 |
|---|---|---|
{rows}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the finished model")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=280)
    parser.add_argument("--weights", default="", help="a .npz file that keeps the weights as they were trained")
    arguments = parser.parse_args()
    config, folder = Config(), Path(arguments.out)
    tokenizer = embed_pairs.train_tokenizer(arguments.seed, config.vocab_size)
    params, run = train(config, tokenizer, arguments.seed, arguments.steps)
    if arguments.weights:
        np.savez(arguments.weights, **params)
    tensors, meant = quantized(params)
    score = recall(config, meant, tokenizer, arguments.seed)
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors.part", metadata={"format": "mlx"})
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in settings(config).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    label = lambda name: f"{name} numbers" if name.isdigit() else name
    rows = "\n".join(f"| {label(name)} | {entry['recall@1']:.3f} | {entry['recall@5']:.3f} |" for name, entry in score.items())
    count = sum(value.size for value in meant.values()) / 1e6
    card = CARD.format(parameters=count, batch=BATCH, positions=config.max_position_embeddings, count=HELD_OUT, rows=rows, **run)
    (folder / "README.md").write_text(card)
    Path(__file__).with_name("embed_score.json").write_text(json.dumps({"run": run, "score": score}, indent=2) + "\n")
    print(json.dumps(score))


if __name__ == "__main__":
    main()
