"""Writes the model folder: MLX affine-quantized weights in the Hugging Face layout, tokenizer, template and card."""
import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from data import MARKS
from model import Config
from render import TEMPLATE

GROUP = 64


def quantize(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packs [outputs, inputs] into u32 words, little end first, with a bf16 scale and bias per group of 64 inputs."""
    outputs, inputs = weight.shape
    groups = weight.astype(np.float32).reshape(outputs, inputs // GROUP, GROUP)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    bias = low.astype(ml_dtypes.bfloat16)
    scale = (np.maximum(high - bias.astype(np.float32), 1e-6) / (2**bits - 1)).astype(ml_dtypes.bfloat16)
    levels = np.clip(np.round((groups - bias.astype(np.float32)) / scale.astype(np.float32)), 0, 2**bits - 1)
    levels = levels.astype(np.uint32).reshape(outputs, -1, 32 // bits)
    packed = np.bitwise_or.reduce(levels << (np.arange(32 // bits, dtype=np.uint32) * bits), axis=-1)
    return packed.astype(np.uint32), scale[..., 0], bias[..., 0]


def dequantize(packed, scale, bias, bits: int) -> np.ndarray:
    """The f32 weights that a packed matrix stands for."""
    levels = (packed[..., None] >> (np.arange(32 // bits, dtype=np.uint32) * bits)) & (2**bits - 1)
    levels = levels.reshape(packed.shape[0], -1, GROUP).astype(np.float32)
    weight = levels * scale.astype(np.float32)[..., None] + bias.astype(np.float32)[..., None]
    return weight.reshape(packed.shape[0], -1)


def export(folder, params: dict, config: Config, tokenizer: Tokenizer, bits: int) -> None:
    """Writes every file but the card."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, value in sorted(params.items()):
        value, name = np.asarray(value), "model." + name
        if value.ndim == 1:
            tensors[name] = value.astype(ml_dtypes.bfloat16)
            continue
        stem = name.removesuffix(".weight")
        for suffix, part in zip(("weight", "scales", "biases"), quantize(value, bits)):
            tensors[f"{stem}.{suffix}"] = np.ascontiguousarray(part)
    save_file(tensors, folder / "model.safetensors.part", metadata={"format": "mlx"})
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    for name, content in settings(config, tokenizer, bits).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def settings(config: Config, tokenizer: Tokenizer, bits: int) -> dict[str, dict]:
    """The JSON files of the folder."""
    end, text_end = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    quantization = {"group_size": GROUP, "bits": bits, "mode": "affine"}
    names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "head_dim", "rope_theta", "rms_norm_eps", "max_position_embeddings"]
    return {
        "config.json": {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **{name: getattr(config, name) for name in names},
            "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "rope_scaling": None, "use_sliding_window": False,
            "tie_word_embeddings": True, "bos_token_id": text_end, "eos_token_id": end, "torch_dtype": "bfloat16",
            "quantization": quantization, "quantization_config": quantization,
        },
        "generation_config.json": {"bos_token_id": text_end, "eos_token_id": [end, text_end], "pad_token_id": text_end, "do_sample": False, "temperature": 0.0},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "unk_token": None, "clean_up_tokenization_spaces": False, "model_max_length": config.max_position_embeddings,
            "added_tokens_decoder": {
                str(tokenizer.token_to_id(text)): {"content": text, "special": text not in MARKS, "single_word": False, "lstrip": False, "rstrip": False, "normalized": text in MARKS}
                for text in ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *MARKS]
            },
        },
    }


def load(folder) -> tuple[Config, dict[str, np.ndarray], Tokenizer]:
    """Reads a folder back as f32 parameters, exactly as a quantized engine sees them."""
    folder = Path(folder)
    stored = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    params = {}
    for name, value in tensors.items():
        stem = name.removesuffix(".weight")
        if name.endswith(".weight"):
            scales = tensors.get(stem + ".scales")
            whole = value.astype(np.float32) if scales is None else dequantize(value, scales, tensors[stem + ".biases"], stored["quantization"]["bits"])
            params[name.removeprefix("model.")] = whole
    config = Config(**{key: stored[key] for key in Config.__dataclass_fields__})
    return config, params, Tokenizer.from_file(str(folder / "tokenizer.json"))


CARD = """---
license: apache-2.0
library_name: mlx
pipeline_tag: text-generation
---
# impetus-nano

**A demo, not an assistant.** {parameters:.2f} million parameters in the Qwen3 architecture, MLX {bits}-bit (group 64). It comes with Impetus
so that a machine without a network answers. It knows a few things about Impetus, finds a fact in a text that it is given, writes small
JSON objects, makes a tool call and ends its turns. It knows nothing about the world and says so. For work, `impetusctl pull ORG/NAME`.

## Training

From nothing, by `tools/nano/train.py`, on text that the script generates itself; no other data. Seed {seed}, {steps} steps,
{tokens:.1f} million tokens in rows of 256 and 1,024, {seconds} s on two CPU cores ({tokens_per_second} tokens/s). Muon for matrices, AdamW for
embeddings and norms. Positions are configured to {positions}; training rows end at 1,024 tokens, and skipped positions taught distances up to
about 8,000. Long prompts work, answers about them get worse with length.

## Held-out score

Greedy decoding of the quantized weights. Names, numbers and codes in these questions are reserved by checksum and never shown in training;
the questions about Impetus are phrasings kept out of training.

| form | score | of |
|---|---|---|
{rows}
"""


def card(folder, config: Config, run: dict, score: dict, bits: int) -> None:
    """Writes the model card, and the score beside the scripts."""
    _, params, _ = load(folder)
    rows = "\n".join(f"| {name} | {entry['score']:.3f} | {entry['count']} |" for name, entry in score.items())
    text = CARD.format(parameters=sum(p.size for p in params.values()) / 1e6, bits=bits, positions=config.max_position_embeddings, rows=rows,
                       **{**run, "tokens": run["tokens"] / 1e6})
    (Path(folder) / "README.md").write_text(text)
    Path(__file__).with_name("score.json").write_text(json.dumps({"run": run, "score": score}, indent=2) + "\n")
