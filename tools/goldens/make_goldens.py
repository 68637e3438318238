"""Makes the golden logits of tests/data/goldens: mlx-lm, in float32 on the CPU, over tiny random models.

Usage: python tools/goldens/make_goldens.py     (needs: pip install "mlx[cpu]==0.32.2" "mlx-lm==0.32.2")

A golden is one safetensors file. Its metadata holds the model's config.json and seed, from which the `random_model`
example of the engine writes the model; no weights are kept. Its tensors are the token ids (`tokens`), and the logits after
a prefill of the first PREFILL of them and after each later token (`logits`, [1 + steps, vocabulary]). The engine's tests
read every file here, so a new architecture is a new line of RECIPES.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "data" / "goldens"
PREFILL, STEPS = 37, 5  # The prefill crosses a block of 32 tokens.

SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "bfloat16",
}
FOUR = {"quantization": {"bits": 4, "group_size": 64}}
EIGHT = {"quantization": {"bits": 8, "group_size": 32}}
MIXED = {"quantization": {
    "bits": 4, "group_size": 32, "model.embed_tokens": {"bits": 8, "group_size": 64},
    "model.layers.0.self_attn.v_proj": {"bits": 8, "group_size": 32}, "model.layers.1.mlp.down_proj": False,
}}
LLAMA3 = {"rope_scaling": {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}}
YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}
SLIDES = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
          "num_hidden_layers": 3}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}

RECIPES = {
    "llama-bf16": ["llama", UNTIED],
    "llama-4bit": ["llama", TIED, FOUR, LLAMA3, {"num_hidden_layers": 3}],
    "llama-8bit": ["llama", UNTIED, EIGHT, {"attention_bias": True, "mlp_bias": True}],
    "llama-f16": ["llama", UNTIED, {"torch_dtype": "float16", "rope_scaling": {"type": "linear", "factor": 2.0}}],
    "llama-odd": ["llama", UNTIED, {
        "hidden_size": 60, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 102, "vocab_size": 251,
    }],
    "mistral-bf16": ["mistral", UNTIED, {"head_dim": 32}, SLIDES],
    "mistral-4bit": ["mistral", UNTIED, FOUR, {"num_key_value_heads": 1}],
    "mistral-8bit": ["mistral", UNTIED, EIGHT, {"head_dim": 32}],
    "qwen2-bf16": ["qwen2", TIED],
    "qwen2-4bit": ["qwen2", UNTIED, FOUR, {"num_attention_heads": 2, "num_key_value_heads": 2}],
    "qwen2-8bit": ["qwen2", TIED, EIGHT, YARN],
    "qwen3-bf16": ["qwen3", UNTIED, {"head_dim": 32}],
    "qwen3-4bit": ["qwen3", TIED, FOUR, {"head_dim": 32, "num_hidden_layers": 3}],
    "qwen3-8bit": ["qwen3", TIED, EIGHT, {"head_dim": 16, "num_attention_heads": 6, "num_key_value_heads": 2}],
    "qwen3-mixed": ["qwen3", UNTIED, MIXED, {"head_dim": 64, "hidden_size": 128}],
}


def config_of(recipe):
    architecture, *changes = recipe
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


def golden(name, recipe, seed, writer, folder):
    config = config_of(recipe)
    subprocess.run([writer, folder, str(seed)], input=json.dumps(config), text=True, check=True)
    model, _ = load_model(Path(folder))
    model.set_dtype(mx.float32)
    tokens = [random.Random(f"{name} {i}").randrange(config["vocab_size"]) for i in range(PREFILL + STEPS)]
    cache = make_prompt_cache(model)
    logits = [model(mx.array([tokens[:PREFILL]]), cache=cache)[0, -1]]
    for token in tokens[PREFILL:]:
        logits.append(model(mx.array([[token]]), cache=cache)[0, -1])
    logits = mx.stack(logits)
    assert logits.dtype == mx.float32
    metadata = {
        "config": json.dumps(config), "seed": str(seed), "prefill": str(PREFILL),
        "weights": fingerprint(Path(folder) / "model.safetensors"),
    }
    tensors = {"tokens": mx.array(tokens, dtype=mx.uint32), "logits": logits}
    mx.save_safetensors(str(OUT / f"{name}.safetensors"), tensors, metadata)
    print(f"{name}: logits spread {mx.std(logits).item():.3f}, top {mx.argmax(logits, axis=-1).tolist()}")


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
