"""Makes the goldens of tests/data/encoders: transformers and sentence-transformers, in float32 on the CPU, over tiny random encoders.

Usage: python tools/goldens/encoders.py     (needs: pip install torch==2.15.0 transformers==5.24.0 sentence-transformers==6.2.0)

A golden is one safetensors file. Its metadata holds the model's config.json, seed and pooling, from which the engine's
`random_model` example writes the model; no weights are kept. Its tensors are the token ids and segments of all texts, one
after another (`tokens`, `segments`, with `lengths`), and the pooled vector or the score of each (`rows`). Embedders are
computed by sentence-transformers from the folder's own files, rerankers by transformers' sequence classifiers. The engine's
tests read every file here, so a new architecture is a new line of RECIPES.
"""

import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "data" / "encoders"
LENGTHS = [1, 3, 33, 70, 130]  # Less than a block of keys, a block and one more, several.

SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 256,
    "max_position_embeddings": 160, "type_vocab_size": 2, "torch_dtype": "bfloat16",
}
DECODER = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu"}
MODERN = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
GEMMA = {
    "hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32, "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_local_base_freq": 100.0, "sliding_window": 32,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}
BOTH_WAYS = {"use_bidirectional_attention": True}
ROBERTA = {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}


def classifier(name):
    return {"architectures": [f"{name}ForSequenceClassification"], "num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}}


RECIPES = {
    "bert-mean": ["bert", "mean", {"hidden_act": "gelu"}],
    "bert-cls": ["bert", "cls", {"hidden_act": "gelu_new", "torch_dtype": "float16"}],
    "bert-odd": ["bert", "mean", {"hidden_size": 60, "num_attention_heads": 6, "intermediate_size": 102, "vocab_size": 251, "hidden_act": "relu"}],
    "bert-rerank": ["bert", "", classifier("Bert")],
    "xlm-roberta-mean": ["xlm-roberta", "mean", ROBERTA],
    "xlm-roberta-rerank": ["xlm-roberta", "", ROBERTA, classifier("XLMRoberta")],
    "nomic-mean": ["nomic_bert", "mean", {"rope_theta": 1000.0, "hidden_act": "silu"}],
    "modernbert-cls": ["modernbert", "cls", MODERN, {"local_attention": 16, "global_attn_every_n_layers": 3, "num_hidden_layers": 4}],
    "modernbert-rerank": ["modernbert", "", MODERN, {"local_attention": 24, "classifier_pooling": "mean"}, classifier("ModernBert")],
    "qwen3-last": ["qwen3", "lasttoken", DECODER],
    "bert-dense": ["bert", "mean", {}],
    "embeddinggemma": ["gemma3_text", "mean", GEMMA, BOTH_WAYS],
    "embeddinggemma-odd": ["gemma3_text", "mean", GEMMA, BOTH_WAYS, {"sliding_window": 17, "head_dim": 256, "torch_dtype": "float16"}],
    "gemma3-last": ["gemma3_text", "lasttoken", GEMMA],
}


def dense(inputs, outputs, bias=False, activation="linear.Identity"):
    return {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": f"torch.nn.modules.{activation}"}


# The matrices that pooled vectors go through, by the recipe's name.
DENSE = {
    "bert-dense": [dense(64, 48, True, "activation.Tanh")],
    "embeddinggemma": [dense(96, 384), dense(384, 96)],
    "embeddinggemma-odd": [dense(96, 60), dense(60, 40)],
}


def config_of(recipe):
    architecture, _, *changes = recipe
    config = {"model_type": architecture, **SHAPE}
    for change in changes:
        config.update(change)
    return config


def fingerprint(path):
    """FNV-1a of the weights, by which the tests know that Python saw the model that they make."""
    value = 0xCBF29CE484222325
    for byte in path.read_bytes():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def rows_of(folder, pooling, tokens, segments):
    """The vector or the score of each text, computed alone: nothing is padded."""
    pairs = [(torch.tensor([ids]), torch.tensor([types])) for ids, types in zip(tokens, segments)]
    if not pooling:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        named = "token_type_ids" in inspect.signature(model.forward).parameters
        return torch.cat([model(input_ids=ids, **({"token_type_ids": types} if named else {})).logits for ids, types in pairs])
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"}).eval()
    network, steps = model[0], [step for step in list(model)[1:] if type(step).__name__ != "Normalize"]
    named = "token_type_ids" in inspect.signature(network.auto_model.forward).parameters
    rows = []
    for ids, types in pairs:
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if named:
            features["token_type_ids"] = types
        features = network(features)
        for step in steps:
            features = step(features)
        rows.append(features["sentence_embedding"])
    return torch.cat(rows)


def golden(name, recipe, seed, writer, folder):
    config, pooling = config_of(recipe), recipe[1]
    projected = [json.dumps(DENSE[name])] if name in DENSE else []
    subprocess.run([writer, folder, str(seed), *([pooling] if pooling else []), *projected], input=json.dumps(config), text=True, check=True)
    draw = random.Random(name)
    tokens = [[draw.randrange(2, config["vocab_size"]) for _ in range(length)] for length in LENGTHS]
    two = config["type_vocab_size"] == 2
    segments = [[int(two and at > length // 2) for at in range(length)] for length in LENGTHS]
    with torch.no_grad():
        rows = rows_of(folder, pooling, tokens, segments).float().contiguous()
    flat = lambda lists: torch.tensor([value for part in lists for value in part], dtype=torch.int32)
    metadata = {
        "config": json.dumps(config), "seed": str(seed), "pooling": pooling,
        "weights": fingerprint(Path(folder) / "model.safetensors"), **({"dense": projected[0]} if projected else {}),
    }
    tensors = {"tokens": flat(tokens), "segments": flat(segments), "lengths": torch.tensor(LENGTHS, dtype=torch.int32), "rows": rows}
    save_file(tensors, str(OUT / f"{name}.safetensors"), metadata)
    print(f"{name}: {list(rows.shape)}, spread {rows.std().item():.3f}")


def main():
    writer = os.environ.get("RANDOM_MODEL")  # A built example may be given; otherwise cargo builds it.
    if writer is None:
        subprocess.run(["cargo", "build", "-q", "-p", "engine", "--example", "random_model"], cwd=ROOT, check=True)
        writer = str(ROOT / "target" / "debug" / "examples" / "random_model")
    OUT.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            golden(name, recipe, zlib.crc32(name.encode()), writer, folder)


if __name__ == "__main__":
    main()
