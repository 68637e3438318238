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
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

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
}
# The converter, with one name for the way in which every tokenizer here cuts text: it knows the published ones by heart.
CONVERT = """
import runpy, sys
source = sys.argv.pop(1)
sys.path[:0] = [source, source + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
sys.argv[0] = source + "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def byte_level(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "[gMASK]"]
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
    for name, parameter in model.named_parameters():
        gauss = torch.randn_like(parameter)
        norm = parameter.dim() == 1 and name.endswith("norm.weight")
        scale = 0.2 if parameter.dim() == 1 else 1.2 / parameter.shape[-1] ** 0.5
        mean = 1.0 if norm and "gemma" not in type(model).__name__.lower() else 0.0
        parameter.data = gauss * scale + mean


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
        weights(model)
        model.save_pretrained(original)
        sentences(original, "gemma" not in kind) if pieces else byte_level(original)
        try:
            run(sys.executable, "-c", CONVERT, source, original, "--outfile", file, "--outtype", "f32")
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
