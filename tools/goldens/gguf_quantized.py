"""Compares models that llama.cpp quantized and the import read with the numbers that the `gguf` package makes of the same files.

Usage: python tools/goldens/gguf_quantized.py LLAMA_CPP QUANTIZE     (needs what gguf_models.py needs)

LLAMA_CPP is a checkout of llama.cpp and QUANTIZE its llama-quantize, built. Random models, wide enough for blocks of 256, are
written by the converter and quantized to each mixture of TYPES; the import reads the result, and a file of the same tensors in
f32. Prints, for each, how far the logits of the two are apart as a share of their size, beside how far quantizing itself moved
them, and what the import says of tensors that it had to move.
"""

import copy
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from transformers import AutoConfig, AutoModelForCausalLM

import gguf_models
from gguf_models import CONVERT, ROPE, SHAPE, byte_level, run, weights
from gguf_vocabularies import imported

TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M",
         "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4_MOE"]
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 64, "rope_parameters": ROPE}
MODELS = {
    "llama": ("llama", WIDE),
    "qwen3_moe": ("qwen3_moe", {**WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}),
}


def in_f32(source, made):
    """A file with its tensors in f32."""
    reader = GGUFReader(source)
    writer = GGUFWriter(made, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        writer.add_tensor(tensor.name, values.reshape([int(size) for size in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(file, folder):
    folder.mkdir()
    if refusal := imported(file, folder):
        return refusal
    return gguf_models.logits(folder)


def apart(left, right):
    return numpy.linalg.norm(left - right) / numpy.linalg.norm(right)


def main():
    source, quantize = sys.argv[1:3]
    for name, (kind, more) in copy.deepcopy(MODELS).items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            original, whole = folder / "original", folder / "whole.gguf"
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **more}), dtype=torch.float32)
            weights(model)
            model.save_pretrained(original)
            byte_level(original)
            run(sys.executable, "-c", CONVERT, source, original, "--outfile", whole, "--outtype", "f32")
            expected = logits(whole, folder / "whole")
            for form in TYPES:
                file, plain = folder / f"{form}.gguf", folder / f"{form}-f32.gguf"
                try:
                    run(quantize, whole, file, form)
                except subprocess.CalledProcessError as error:
                    print(f"{name} {form}: not quantized: {error.stderr.decode().strip().splitlines()[-1]}", flush=True)
                    continue
                in_f32(file, plain)
                ours, theirs = logits(file, folder / form), logits(plain, folder / f"{form}-f32")
                refused = next((made for made in (ours, theirs) if isinstance(made, str)), None)
                print(f"{name} {form}: " + (refused or f"{apart(ours, theirs):.1e} apart, quantizing {apart(theirs, expected):.1e}"), flush=True)


main()
