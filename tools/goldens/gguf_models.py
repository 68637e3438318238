"""Compares models that llama.cpp's converter wrote and the import read with the same models in transformers.

Usage: python tools/goldens/gguf_models.py LLAMA_CPP [NAME ...]
       (needs: pip install torch "transformers==5.24.0" safetensors sentencepiece protobuf "gguf==0.19.0",
       and cargo build --release -p worker -p engine --bins --examples)

LLAMA_CPP is a checkout of llama.cpp, whose convert_hf_to_gguf.py writes the files. Models are tiny and random, so nothing is
fetched; each is a line of MODELS, and has every peculiarity of its family that a file can say. Numbers are kept in f32 all the
way: what is left between two logits is the order of sums. Tokens of a few texts are compared too. Runs by hand, as it needs
torch. Prints, for each model, how far its logits are apart as a share of their size, or what refused it.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP

from gguf_vocabularies import RELEASE, imported, tokens

COUNT = 512
TOKENS = [3 + at * 7 % (COUNT - 3) for at in range(70)]
TEXTS = ["the house on the hill", "It's 1234, isn't it?\n\n  and é  ", " ", "a<|im_start|>b<b>", "中文 and\ttabs"]
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "vocab_size": COUNT, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
ROPE = {"rope_theta": 10000.0}
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64, "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0}
LONG = {"rope_type": "longrope", "original_max_position_embeddings": 64, "long_factor": [1.5 + i for i in range(8)], "short_factor": [1.0 + i / 8 for i in range(8)],
        "rope_theta": 10000.0}
LATENT = {"kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 24, "head_dim": 16, "num_key_value_heads": 4}
GROUPED = {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
           "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.5}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16, "num_hidden_layers": 4,
         "head_dim": 32}
MISTRAL_3 = {**YARN, "factor": 16.0, "original_max_position_embeddings": 16, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0}
SECTIONS = {**ROPE, "partial_rotary_factor": 0.5, "mrope_interleaved": True, "mrope_section": [3, 3, 2]}
BLOCKS = [
    {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 5.0}}, {"attention": {"n_heads_in_group": None}, "ffn": {"ffn_mult": 12.5}},
    {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": None}}, {"attention": {"n_heads_in_group": None}, "ffn": {"ffn_mult": None}},
    {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": 7.3}},
]
for block in BLOCKS:
    block["attention"] |= {"no_op": block["attention"]["n_heads_in_group"] is None, "replace_with_linear": False}
    block["ffn"] |= {"no_op": block["ffn"]["ffn_mult"] is None, "replace_with_linear": False}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
# Models by name: model_type, what its configuration says beside SHAPE, and whether its letters are sentencepiece's.
MODELS = {
    "llama": ("llama", {"rope_parameters": ROPE}, False),
    "llama of sentencepiece": ("llama", {"rope_parameters": ROPE, "tie_word_embeddings": True}, True),
    "llama with biases": ("llama", {"rope_parameters": ROPE, "attention_bias": True, "mlp_bias": True}, False),
    "llama 3": ("llama", {"rope_parameters": LLAMA_3}, False),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, **ROPE}}, False),
    "llama, yarn": ("llama", {"rope_parameters": YARN}, False),
    "mistral": ("mistral", {"rope_parameters": ROPE, "sliding_window": None}, False),
    "mixtral": ("mixtral", {"rope_parameters": ROPE, "num_local_experts": 4, "num_experts_per_tok": 2}, False),
    "qwen2": ("qwen2", {"rope_parameters": ROPE}, False),
    "qwen2, yarn": ("qwen2", {"rope_parameters": YARN}, False),
    "qwen2_moe": ("qwen2_moe", {"rope_parameters": ROPE, **EXPERTS, "shared_expert_intermediate_size": 48}, False),
    "qwen3": ("qwen3", {"rope_parameters": ROPE, "tie_word_embeddings": True}, False),
    "qwen3, wide heads": ("qwen3", {"rope_parameters": ROPE, "head_dim": 32}, False),
    "qwen3_moe": ("qwen3_moe", {"rope_parameters": ROPE, **EXPERTS, "norm_topk_prob": True}, False),
    "gemma2": ("gemma2", {"sliding_window": 16, "query_pre_attn_scalar": 16, "rope_parameters": ROPE}, True),
    "gemma3": ("gemma3_text", {"sliding_window": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 7}, True),
    "gemma3, linear": ("gemma3_text", {
        "sliding_window": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 7,
        "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}}}, True),
    "phi3": ("phi3", {"rope_parameters": ROPE, "sliding_window": 16}, True),
    "phi3, longrope": ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 64}, True),
    "phi4": ("phi3", {"rope_parameters": ROPE, "sliding_window": None}, False),
    "phi4 mini": ("phi3", {
        "rope_parameters": {**LONG, "partial_rotary_factor": 0.75, "long_factor": LONG["long_factor"][:6], "short_factor": LONG["short_factor"][:6]},
        "partial_rotary_factor": 0.75, "original_max_position_embeddings": 64, "tie_word_embeddings": True}, False),
    "olmo2": ("olmo2", {"rope_parameters": ROPE}, False),
    "olmo3": ("olmo3", {"rope_parameters": ROPE, "sliding_window": 16, "num_hidden_layers": 4}, False),
    "smollm3": ("smollm3", {"rope_parameters": ROPE, "num_hidden_layers": 4, "no_rope_layers": None}, False),
    "granite": ("granite", {
        "rope_parameters": ROPE, "attention_multiplier": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.4,
        "logits_scaling": 2.0}, False),
    "cohere": ("cohere", {"rope_parameters": ROPE, "logit_scale": 0.25}, False),
    "cohere with norms": ("cohere", {"rope_parameters": ROPE, "logit_scale": 0.25, "use_qk_norm": True}, False),
    "cohere2": ("cohere2", {"rope_parameters": ROPE, "logit_scale": 0.25, "sliding_window": 16, "num_hidden_layers": 4, "rotary_pct": 1.0}, False),
    "glm4": ("glm4", {"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}, "partial_rotary_factor": 0.5, "attention_bias": True}, False),
    "gpt_oss": ("gpt_oss", {
        "rope_parameters": {**YARN, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False, "factor": 32.0},
        "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64, "sliding_window": 16}, False),
    "deepseek_v2": ("deepseek_v2", {**LATENT, **GROUPED, "q_lora_rank": None, "rope_parameters": ROPE}, False),
    "deepseek_v2 in groups": ("deepseek_v2", {
        **LATENT, **GROUPED, "q_lora_rank": 48, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
        "rope_parameters": {**YARN, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 0.707}}, False),
    "deepseek_v3": ("deepseek_v3", {
        **LATENT, **GROUPED, "q_lora_rank": 48, "n_group": 4, "topk_group": 2, "norm_topk_prob": True,
        "rope_parameters": {**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0}}, False),
    "deepseek_v3, one group": ("deepseek_v3", {**LATENT, **GROUPED, "q_lora_rank": None, "norm_topk_prob": False, "rope_parameters": ROPE}, False),
    "glm4_moe": ("glm4_moe", {
        **GROUPED, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}, "attention_bias": True, "use_qk_norm": True,
        "num_nextn_predict_layers": 1}, False),
    "glm4_moe, plain": ("glm4_moe", {
        **GROUPED, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}, "num_nextn_predict_layers": 0, "first_k_dense_replace": 2}, False),
    "glm4_moe_lite": ("glm4_moe_lite", {
        **LATENT, **GROUPED, "q_lora_rank": 48, "rope_parameters": ROPE, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 1}, False),
    "qwen3_next": ("qwen3_next", {
        **DELTA, **EXPERTS, "shared_expert_intermediate_size": 48, "norm_topk_prob": True,
        "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25}}, False),
    "qwen3_next, listed layers": ("qwen3_next", {
        **DELTA, **EXPERTS, "shared_expert_intermediate_size": 48, "norm_topk_prob": True, "linear_num_key_heads": 4,
        "layer_types": ["full_attention", "linear_attention", "full_attention", "linear_attention"],
        "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25}}, False),
    "qwen3_5": ("qwen3_5_text", {**DELTA, "rope_parameters": SECTIONS}, False),
    "qwen3_5, as many keys": ("qwen3_5_text", {**DELTA, "linear_num_key_heads": 4, "rope_parameters": SECTIONS, "tie_word_embeddings": True}, False),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 48, "rope_parameters": SECTIONS}, False),
    "ministral3": ("ministral3", {"rope_parameters": {**MISTRAL_3, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3}}, False),
    "mistral3": ("mistral", {"rope_parameters": ROPE, "sliding_window": None}, False),
    # By the size of its vocabulary the converter knows one of bytes.
    "deci": ("llama", {"rope_parameters": LLAMA_3, "num_hidden_layers": 5, "num_key_value_heads": 4, "vocab_size": 128256}, False),
    "granite 4": ("granitemoehybrid", {
        "rope_parameters": ROPE, "attention_multiplier": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.4, "logits_scaling": 2.0,
        "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 128, "layer_types": ["attention"] * 3,
        "position_embedding_type": "rope", "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_expand": 2}, False),
}
# Expressions that cut text, by the name that GGUF gives them, and the families whose models here are cut so; the others are cut as GPT-2's.
SPLITS = {
    "qwen2": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "glm4": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "deepseek-v3": [
        r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "tekken": [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
}
CUT = {"glm4_moe": "glm4", "glm4_moe_lite": "glm4", "deepseek_v3": "deepseek-v3", "qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35", "ministral3": "tekken"}
# The converter, told by the environment how the tokenizer cuts text: it knows the published ones by heart.
CONVERT = """
import os, runpy, sys
source = sys.argv.pop(1)
sys.path[:0] = [source, source + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: os.environ.get("SPLIT", "gpt-2")
sys.argv[0] = source + "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def byte_level(folder, split=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=split in ("glm4", "tekken")))
    cuts = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in SPLITS.get(split, [])]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not cuts)])
    tokenizer.decoder = decoders.ByteLevel()
    if split == "qwen35":
        tokenizer.normalizer = normalizers.NFC()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|observation|>", "[gMASK]"]
    trainer = trainers.BpeTrainer(vocab_size=COUNT, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=specials[1], eos_token=specials[2], pad_token=specials[0]).save_pretrained(folder)
    # By this name the converter knows a Phi-4.
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}))


def sentences(folder, spaced):
    """A vocabulary of sentencepiece, as tokenizer.model alone."""
    text = folder / "text"
    text.write_text(Path(__file__).read_text())
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=COUNT, model_type="bpe", byte_fallback=True,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, control_symbols=["<start_of_turn>", "<end_of_turn>"],
        # Where a space is put first, transformers and llama.cpp put one after such a symbol too, and sentencepiece does not.
        user_defined_symbols=[] if spaced else ["\n\n", "<b>"], normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=spaced, minloglevel=2, num_threads=1)
    text.unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))


def weights(model):
    """Random numbers that leave no part of a model without effect."""
    torch.manual_seed(7)
    less_one = any(name in type(model).__name__.lower() for name in ["gemma", "qwen3next", "qwen3_5"])
    biases = [(name, bias) for name, bias in model.named_buffers() if name.endswith("e_score_correction_bias")]
    for name, parameter in [*model.named_parameters(), *biases]:
        gauss = torch.randn_like(parameter)
        norm = parameter.dim() == 1 and name.endswith("norm.weight")
        scale = 0.2 if parameter.dim() == 1 else 1.2 / parameter.shape[-1] ** 0.5
        mean = 1.0 if norm and (not less_one or "linear_attn" in name) else 0.0
        parameter.data = gauss * scale + mean


def as_deci(model):
    """A Llama whose layers differ as those of DeciLM do, which transformers has no code of its own for."""
    for layer, block in zip(model.model.layers, BLOCKS):
        config = copy.deepcopy(model.config)
        if group := block["attention"]["n_heads_in_group"]:
            config.num_key_value_heads = config.num_attention_heads // group
            layer.self_attn = LlamaAttention(config, layer.self_attn.layer_idx)
        else:
            layer.self_attn = layer.input_layernorm = None
        if factor := block["ffn"]["ffn_mult"]:
            config.intermediate_size = -int(-int(2 * factor * config.hidden_size / 3) // 256) * 256
            layer.mlp = LlamaMLP(config)
        else:
            layer.mlp = layer.post_attention_layernorm = None

        def forward(hidden, layer=layer, position_embeddings=None, attention_mask=None, **_):
            if layer.self_attn is not None:
                hidden = hidden + layer.self_attn(layer.input_layernorm(hidden), position_embeddings=position_embeddings, attention_mask=attention_mask)[0]
            return hidden if layer.mlp is None else hidden + layer.mlp(layer.post_attention_layernorm(hidden))

        layer.forward = forward


def told(folder, **keys):
    """Writes keys of a saved configuration; those that are None go."""
    config = json.loads((folder / "config.json").read_text()) | keys
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def deci(folder):
    told(folder, architectures=["DeciLMForCausalLM"], model_type="nemotron-nas", block_configs=BLOCKS, intermediate_size=None, num_key_value_heads=None,
         head_dim=None)


def beside_pictures(folder):
    """A Mistral as the text of a Mistral 3."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": config, "vision_config": {}}))
    held = load_file(folder / "model.safetensors")
    save_file({f"language_model.{name}": tensor for name, tensor in held.items()}, folder / "model.safetensors", {"format": "pt"})


def guesses(folder):
    """Adds what guesses a token ahead, a layer like the last and its own: published models have it, and transformers leaves it out."""
    config, held = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    last, width = config["num_hidden_layers"] - 1, config["hidden_size"]
    if "linear_num_key_heads" in config:
        last = max(at for at in range(last + 1) if f"model.layers.{at}.self_attn.q_proj.weight" in held)
        layer, own = "mtp.layers.0", {"mtp.fc": 2 * width, "mtp.pre_fc_norm_embedding": 0, "mtp.pre_fc_norm_hidden": 0, "mtp.norm": 0}
    else:
        layer = f"model.layers.{last + 1}"
        own = {f"{layer}.eh_proj": 2 * width, f"{layer}.enorm": 0, f"{layer}.hnorm": 0, f"{layer}.shared_head.norm": 0}
    alike = {name.replace(f"model.layers.{last}", layer): tensor.clone() for name, tensor in held.items() if name.startswith(f"model.layers.{last}.")}
    new = {f"{name}.weight": torch.ones((width, size) if size else (width,)) for name, size in own.items()}
    save_file({**held, **alike, **new}, folder / "model.safetensors", {"format": "pt"})


# What is changed in a folder that transformers has saved; it calls layers of attention otherwise than published folders do.
CHANGES = {name: guesses for name in MODELS if name.startswith(("glm4_moe", "qwen3_next", "qwen3_5")) and name != "glm4_moe, plain"}
CHANGES |= {"deci": deci, "mistral3": beside_pictures, "granite 4": lambda folder: told(folder, layer_types=["attention"] * 3)}


def run(*command, **named):
    return subprocess.run([str(part) for part in command], capture_output=True, check=True, **named).stdout


def logits(made):
    return numpy.frombuffer(run(RELEASE / "examples/logits", made, input=json.dumps(TOKENS).encode()), numpy.float32)


def differing(source, made, pieces):
    """The texts whose tokens differ, and both."""
    ours = tokens(made, TEXTS)
    if pieces:
        vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
        theirs = [vocabulary.encode(text) for text in TEXTS]
    else:
        vocabulary = Tokenizer.from_file(str(source / "tokenizer.json"))
        theirs = [vocabulary.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return [(text, ours, theirs) for text, ours, theirs in zip(TEXTS, ours, theirs) if ours != theirs]


def compare(name, source):
    kind, more, pieces = copy.deepcopy(MODELS[name])  # Configurations write into what they are given.
    with tempfile.TemporaryDirectory() as folder:
        original, file, made = Path(folder) / "original", Path(folder) / "model.gguf", Path(folder) / "made"
        made.mkdir()
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **more}), dtype=torch.float32).eval()
        if name == "deci":
            as_deci(model)
        weights(model)
        model.save_pretrained(original)
        CHANGES.get(name, lambda _: None)(original)
        split = CUT.get(kind)
        sentences(original, "gemma" not in kind) if pieces else byte_level(original, split)
        try:
            named = {**os.environ, "SPLIT": split or "gpt-2"}
            run(sys.executable, "-c", CONVERT, source, original, "--outfile", file, "--outtype", "f32", env=named)
        except subprocess.CalledProcessError as error:
            return f"not converted: {error.stderr.decode().strip().splitlines()[-1]}"
        if refusal := imported(file, made):
            return f"refused: {refusal}"
        ours = logits(made)
        with torch.no_grad():
            theirs = model(torch.tensor([TOKENS])).logits[0].numpy()
        apart = numpy.linalg.norm(ours.reshape(theirs.shape) - theirs) / numpy.linalg.norm(theirs)
        return f"{apart:.1e} apart" + "".join(f"; {text!r} is {ours} where {theirs} is right" for text, ours, theirs in differing(original, made, pieces))


def main():
    source, names = Path(sys.argv[1]), sys.argv[2:] or MODELS
    for name in names:
        print(f"{name}: {compare(name, source)}", flush=True)


if __name__ == "__main__":
    main()
