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

# mlx-lm 0.32.2 passes an argument that MLX knows from its next release on.
gather_qmm = mx.gather_qmm
mx.gather_qmm = lambda *arguments, global_scale=None, **named: gather_qmm(*arguments, **named)

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
GELU = {"hidden_activation": "gelu_pytorch_tanh"}
GEMMA3 = {
    "head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 8, "sliding_window_pattern": 2,
    "num_hidden_layers": 4, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0}, **GELU,
}
LONGROPE = {
    "partial_rotary_factor": 0.75, "original_max_position_embeddings": 32,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [1.0, 1.25, 2.0, 3.0, 4.5, 6.0]},
}
FACTORS = {
    "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5, "logits_scaling": 2.0,
    "attention_bias": False, "mlp_bias": False,
}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1,
       "mlp_only_layers": [], "norm_topk_prob": True, "head_dim": 32}
SHARED = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1,
          "shared_expert_intermediate_size": 96, "norm_topk_prob": False}
OSS = {
    "head_dim": 32, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 8, "num_hidden_layers": 4,
    # mlx-lm does not read "truncate", which the released models set to false.
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 128},
}
MXFP4 = {"quantization": {
    "bits": 4, "group_size": 32, "mode": "mxfp4",
    "model.embed_tokens": {"bits": 8, "group_size": 64}, "lm_head": {"bits": 8, "group_size": 64},
    **{f"model.layers.{layer}.mlp.router": {"bits": 8, "group_size": 64} for layer in range(4)},
    **{f"model.layers.{layer}.self_attn.{name}_proj": {"bits": 8, "group_size": 64}
       for layer in range(4) for name in "qkvo"},
}}
def block(heads_in_group=None, ffn_mult=None):
    """A layer of Nemotron; what has no number is left out."""
    attention = {"n_heads_in_group": heads_in_group} if heads_in_group else {"no_op": True}
    return {"attention": attention, "ffn": {"ffn_mult": ffn_mult} if ffn_mult else {"no_op": True}}


NAS = {
    "num_hidden_layers": 5, "num_key_value_heads": None, "intermediate_size": None, "attention_bias": False,
    "mlp_bias": False,
    "block_configs": [block(2, 1.5), block(None, 7.0), block(4, None), block(1, 3.0), block(2, 7.0)],
}
def latent(layers=3, **changes):
    """Latent attention and grouped experts; YaRN sharpens the scores."""
    return {
        "kv_lora_rank": 64, "q_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 16,
        "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 64,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_hidden_layers": layers, "attention_bias": False,
        "num_key_value_heads": 4, "routed_scaling_factor": 1.5, "n_group": 4, "topk_group": 2, "rope_scaling": {
            "type": "yarn", "factor": 40.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1,
            "mscale": 0.707, "mscale_all_dim": 0.5,
        }, **changes,
    }


# mlx-lm keeps these routers as they are.
FOUR_BUT_ROUTERS = {"quantization": {
    "bits": 4, "group_size": 32, **{f"model.layers.{layer}.mlp.gate": False for layer in range(4)},
}}
GROUPED = {
    "head_dim": 32, "attention_bias": True, "use_qk_norm": True, "partial_rotary_factor": 0.5, "n_routed_experts": 6,
    "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 64, "first_k_dense_replace": 1,
    "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.5, "norm_topk_prob": True, "rope_scaling": None,
}
DELTA = {
    "head_dim": 32, "num_hidden_layers": 4, "full_attention_interval": 2, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4,
    "partial_rotary_factor": 0.5, "attention_bias": False,
}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}
SPARSE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1,
          "shared_expert_intermediate_size": 64, "mlp_only_layers": [], "norm_topk_prob": True}
SHARPENED = {"head_dim": 32, "rope_theta": None, "rope_parameters": {
    "rope_type": "yarn", "type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 16,
    "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3,
}}
COMMAND = {"layer_norm_eps": 1e-5, "logit_scale": 0.5}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}

RECIPES = {
    "llama-bf16": ["llama", UNTIED],
    "llama-4bit": ["llama", TIED, FOUR, LLAMA3, {"num_hidden_layers": 3}],
    "llama-8bit": ["llama", UNTIED, EIGHT, {"attention_bias": True, "mlp_bias": True}],
    "llama-f16": ["llama", UNTIED, {"torch_dtype": "float16", "rope_scaling": {"type": "linear", "factor": 2.0}}],
    "llama-odd": ["llama", UNTIED, {
        "hidden_size": 60, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 102, "vocab_size": 251,
    }],
    "llama-2bit": ["llama", TIED, {"quantization": {"bits": 2, "group_size": 64}}],
    "llama-3bit": ["llama", TIED, {"quantization": {"bits": 3, "group_size": 32}}],
    "llama-5bit": ["llama", TIED, {"quantization": {"bits": 5, "group_size": 64}}],
    "llama-6bit": ["llama", TIED, {"quantization": {"bits": 6, "group_size": 32}}],
    "cohere-bf16": ["cohere", TIED, COMMAND],
    "cohere-4bit": ["cohere", TIED, COMMAND, FOUR],
    "cohere-norms": ["cohere", TIED, COMMAND, {"use_qk_norm": True}],
    "cohere2-bf16": ["cohere2", TIED, COMMAND, {
        "head_dim": 16, "sliding_window": 8, "sliding_window_pattern": 2, "num_hidden_layers": 4,
    }],
    "deepseek_v2-bf16": ["deepseek_v2", UNTIED, latent(q_lora_rank=None, topk_method="greedy", v_head_dim=24)],
    "deepseek_v2-4bit": ["deepseek_v2", UNTIED, latent(topk_method="group_limited_greedy"), FOUR_BUT_ROUTERS],
    "deepseek_v3-bf16": ["deepseek_v3", UNTIED, latent(topk_method="noaux_tc", norm_topk_prob=True)],
    "deepseek_v3-4bit": ["deepseek_v3", UNTIED, FOUR_BUT_ROUTERS, latent(
        topk_method="noaux_tc", norm_topk_prob=False, n_group=2, topk_group=1, rope_scaling=None, attention_bias=True,
    )],
    # mlx-lm does not slide Gemma 2's layers, so no window closes here.
    "gemma2-bf16": ["gemma2", TIED, GELU, {
        "head_dim": 32, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0,
        "sliding_window": 512,
    }],
    "gemma2-4bit": ["gemma2", TIED, GELU, FOUR, {
        "head_dim": 16, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    }],
    "gemma3-bf16": ["gemma3", TIED, {"text_config": {**SHAPE, "model_type": "gemma3_text", **GEMMA3}}],
    "gemma3_text-4bit": ["gemma3_text", TIED, FOUR, GEMMA3],
    # mlx-lm turns whole heads of it, whatever the file says.
    "glm-4bit": ["glm", UNTIED, FOUR, {"head_dim": 32, "attention_bias": True, "partial_rotary_factor": 1.0}],
    "glm4-bf16": ["glm4", UNTIED, {"head_dim": 32, "attention_bias": True, "partial_rotary_factor": 0.5}],
    "glm4-4bit": ["glm4", UNTIED, FOUR, {"head_dim": 32, "attention_bias": False, "partial_rotary_factor": 0.5}],
    "glm4_moe-bf16": ["glm4_moe", UNTIED, GROUPED],
    "glm4_moe-4bit": ["glm4_moe", UNTIED, GROUPED, FOUR_BUT_ROUTERS, {"attention_bias": False, "use_qk_norm": False}],
    "glm4_moe_lite-4bit": ["glm4_moe_lite", UNTIED, FOUR_BUT_ROUTERS, latent(rope_scaling=None, norm_topk_prob=True)],
    "gpt_oss-bf16": ["gpt_oss", UNTIED, OSS],
    "gpt_oss-mxfp4": ["gpt_oss", UNTIED, OSS, MXFP4],
    "granite-bf16": ["granite", TIED, FACTORS],
    "granitemoehybrid-bf16": ["granitemoehybrid", TIED, FACTORS, {
        "layer_types": ["attention", "attention"], "position_embedding_type": "rope",
    }],
    "granitemoehybrid-4bit": ["granitemoehybrid", UNTIED, FOUR, FACTORS, {
        "layer_types": ["attention", "attention"], "position_embedding_type": "nope",
    }],
    "granite-4bit": ["granite", UNTIED, FOUR, FACTORS],
    "mistral-bf16": ["mistral", UNTIED, {"head_dim": 32}, SLIDES],
    "mistral-4bit": ["mistral", UNTIED, FOUR, {"num_key_value_heads": 1}],
    "mistral-8bit": ["mistral", UNTIED, EIGHT, {"head_dim": 32}],
    "ministral3-bf16": ["ministral3", UNTIED, SHARPENED, {
        "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"],
    }],
    "mistral3-4bit": ["mistral3", UNTIED, FOUR, {"text_config": {**SHAPE, **UNTIED, "model_type": "ministral3", **SHARPENED}}],
    "mixtral-bf16": ["mixtral", UNTIED, {"num_local_experts": 4, "num_experts_per_tok": 2}],
    "mixtral-4bit": ["mixtral", UNTIED, FOUR, {"num_local_experts": 8, "num_experts_per_tok": 2}],
    "nemotron-nas-bf16": ["nemotron-nas", UNTIED, NAS, LLAMA3],
    "nemotron-nas-4bit": ["nemotron-nas", TIED, FOUR, NAS],
    "olmo2-bf16": ["olmo2", UNTIED, {"head_dim": 32}],
    "olmo2-4bit": ["olmo2", UNTIED, FOUR],
    "olmo3-bf16": ["olmo3", UNTIED, {"num_hidden_layers": 4, "sliding_window": 8, **YARN}],
    "olmo3-4bit": ["olmo3", UNTIED, FOUR, SLIDES],
    "phi3-bf16": ["phi3", UNTIED, LONGROPE],
    "phi3-4bit": ["phi3", TIED, FOUR],
    "smollm3-bf16": ["smollm3", TIED, {"num_hidden_layers": 4}],
    "smollm3-4bit": ["smollm3", TIED, FOUR, {"no_rope_layers": [0, 1]}],
    "qwen2-bf16": ["qwen2", TIED],
    "qwen2-4bit": ["qwen2", UNTIED, FOUR, {"num_attention_heads": 2, "num_key_value_heads": 2}],
    "qwen2-8bit": ["qwen2", TIED, EIGHT, YARN],
    "qwen3-bf16": ["qwen3", UNTIED, {"head_dim": 32}],
    "qwen3-4bit": ["qwen3", TIED, FOUR, {"head_dim": 32, "num_hidden_layers": 3}],
    "qwen3-8bit": ["qwen3", TIED, EIGHT, {"head_dim": 16, "num_attention_heads": 6, "num_key_value_heads": 2}],
    "qwen2_moe-bf16": ["qwen2_moe", UNTIED, SHARED],
    "qwen2_moe-4bit": ["qwen2_moe", UNTIED, {"quantization": {"bits": 4, "group_size": 32}}, SHARED],
    "qwen3_moe-bf16": ["qwen3_moe", TIED, MOE],
    "qwen3_moe-4bit": ["qwen3_moe", UNTIED, FOUR, MOE, {
        "num_hidden_layers": 3, "mlp_only_layers": [1], "norm_topk_prob": False,
    }],
    # mlx-lm adds one to the norms of these in the type that they are stored in.
    "qwen3_next-f32": ["qwen3_next", UNTIED, DELTA, SPARSE, {"torch_dtype": "float32"}],
    "qwen3_next-4bit": ["qwen3_next", TIED, FOUR, DELTA, SPARSE, {"linear_num_key_heads": 4}],
    "qwen3_5-f32": ["qwen3_5", UNTIED, {"torch_dtype": "float32", "text_config": {**SHAPE, **UNTIED, **DELTA, **THETA}}],
    "qwen3_5-4bit": ["qwen3_5", UNTIED, FOUR, {"text_config": {**SHAPE, **UNTIED, **DELTA, **THETA}}],
    "qwen3_5_moe-4bit": ["qwen3_5_moe", TIED, FOUR, {"text_config": {**SHAPE, **TIED, **DELTA, **THETA, **SPARSE}}],
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
