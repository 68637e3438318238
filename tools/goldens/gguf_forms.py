"""Writes tests/data/gguf: what the `gguf` package makes of random blocks of each form, and which names it has for modules.

    pip install gguf==0.19.0 && python tools/goldens/gguf_forms.py

`forms.safetensors` holds `FORM.blocks` (two blocks and more of random bytes, with scales that are no infinities) and
`FORM.values` (their numbers); `names.json` holds, for each architecture, modules in transformers' words and the names of
their tensors.
"""

import json
import pathlib
import struct

import numpy
from gguf import GGMLQuantizationType as Form
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

OUT = pathlib.Path(__file__).parents[2] / "tests/data/gguf"
# Where the halves of a block are that scale it.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
MODULES = [
    "model.embed_tokens", "model.norm", "lm_head", "model.layers.1.input_layernorm",
    "model.layers.1.post_attention_layernorm", "model.layers.1.pre_feedforward_layernorm",
    "model.layers.1.post_feedforward_layernorm", "model.layers.1.post_self_attn_layernorm",
    "model.layers.1.post_mlp_layernorm", "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
    "model.layers.1.self_attn.v_proj", "model.layers.1.self_attn.o_proj", "model.layers.1.self_attn.qkv_proj",
    "model.layers.1.self_attn.q_norm", "model.layers.1.self_attn.k_norm", "model.layers.1.self_attn.sinks",
    "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj",
    "model.layers.1.mlp.gate_up_proj", "model.layers.1.mlp.gate", "model.layers.1.mlp.router",
    "model.layers.1.block_sparse_moe.gate", "model.layers.1.mlp.shared_expert.gate_proj",
    "model.layers.1.mlp.shared_expert.up_proj", "model.layers.1.mlp.shared_expert.down_proj",
    "model.layers.1.mlp.shared_expert_gate", "model.layers.1.mlp.shared_experts.gate_proj",
    "model.layers.1.mlp.shared_experts.up_proj", "model.layers.1.mlp.shared_experts.down_proj",
    "model.layers.1.self_attn.q_a_proj", "model.layers.1.self_attn.q_a_layernorm", "model.layers.1.self_attn.q_b_proj",
    "model.layers.1.self_attn.kv_a_proj_with_mqa", "model.layers.1.self_attn.kv_a_layernorm",
    "model.layers.1.self_attn.kv_b_proj", "model.layers.1.linear_attn.in_proj_qkvz",
    "model.layers.1.linear_attn.in_proj_ba", "model.layers.1.linear_attn.in_proj_qkv",
    "model.layers.1.linear_attn.in_proj_z", "model.layers.1.linear_attn.in_proj_a",
    "model.layers.1.linear_attn.in_proj_b", "model.layers.1.linear_attn.norm", "model.layers.1.linear_attn.out_proj",
]
ARCHITECTURES = [
    "llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "olmo2", "smollm3", "granite", "command-r",
    "cohere2", "glm4", "gpt-oss", "glm4moe", "deepseek2", "deci", "mistral3", "qwen3next", "qwen35", "qwen35moe",
]


def blocks(name, random):
    elements, size = GGML_QUANT_SIZES[Form[name]]
    data = random.integers(0, 256, (4 if elements == 32 else 2, size), dtype=numpy.uint8)
    for at in HALVES[name]:
        scales = random.uniform(0.001, 0.02, len(data)).astype(numpy.float16)
        data[:, at : at + 2] = scales[:, None].view(numpy.uint8)
    if name == "MXFP4":
        data[:, 0] = random.integers(115, 130, len(data))
    return data


def main():
    random = numpy.random.default_rng(7)
    header, body = {}, b""

    def put(name, dtype, array):
        nonlocal body
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + array.nbytes]}
        body += array.tobytes()

    made = {name: blocks(name, random) for name in HALVES}
    for name, data in made.items():
        put(f"{name}.values", "F32", dequantize(data, Form[name]).astype(numpy.float32).reshape(-1))
    for name, data in made.items():
        put(f"{name}.blocks", "U8", data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "forms.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)

    names = {}
    for architecture in ARCHITECTURES:
        number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == architecture)
        table = get_tensor_name_map(number, 2)
        found = {module: table.get_name(module) for module in MODULES}
        names[architecture] = {module: name for module, name in found.items() if name}
    (OUT / "names.json").write_text(json.dumps(names, indent=1) + "\n")


main()
