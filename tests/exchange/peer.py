"""Writes checkpoints as other projects do, and loads exported models.

    peer.py can                       exits 0 if the libraries are installed
    peer.py fairseq CASE FILE         a fairseq (or data2vec_vision) checkpoint of a parity case
    peer.py finetuned CASE FILE HEAD  the same fine-tuned by fairseq, and its head under our names
    peer.py refused FOLDER            fairseq checkpoints of other models, and an old one
    peer.py bin FOLDER TO             a Hugging Face folder with pytorch_model.bin
    peer.py random TO CLASS…          Hugging Face folders of small models with random weights
    peer.py older CLASS TO            the same under the names that transformers 4 had for segmentation
    peer.py defaults FILE             the default configs of `transformers`
    peer.py loads FOLDER CLASS        checks that it loads without a missing or unexpected key
    peer.py same FOLDER OTHER…        checks that both of each pair load, and agree
    peer.py agrees FOLDER CLASS FILE  checks FILE's `features` against the output for its `input`
"""

import argparse
import collections
import json
import pathlib
import re
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()


class Dictionary:
    """Replaces a class of fairseq that a reader of checkpoints must skip."""

    def __init__(self):
        self.symbols = ["<s>", "<pad>"]


def read_case(case):
    """Returns a parity case: tensors, the model's config as fairseq has it, and case.json."""
    case = pathlib.Path(case)
    config = json.loads((case / "config.json").read_text())["model"]
    case_json = json.loads((case / "case.json").read_text())
    if "modality" in config:
        config["modalities"] = {config["supported_modality"].lower(): config.pop("modality")}
        config["_name"] = "data2vec_multi"
    else:
        config["_name"] = f"data2vec_{case_json['modality']}"
    return load_file(case / "weights.safetensors"), config, case_json


def save(model, config, file):
    checkpoint = {
        "args": None,
        "cfg": {"_name": None, "common": {"seed": 1}, "model": config, "task": {"_name": "audio"}},
        "model": model,
        "criterion": None,
        "optimizer_history": [{"criterion_name": "ModelCriterion", "num_updates": 7}],
        "task_state": {"dictionary": Dictionary()},
        "extra_state": {"epoch": 1, "metrics": collections.OrderedDict()},
        "last_optimizer_state": {"state": {0: {"step": 7, "exp_avg": torch.ones(3)}}},
    }
    torch.save(checkpoint, file)


def fairseq(case, file):
    tensors, config, case_json = read_case(case)
    if case_json["modality"] == "image" and case_json["method"].endswith("1"):
        student = {k: v for k, v in tensors.items() if not k.startswith("_ema.")}
        args = argparse.Namespace(model="beit_base_patch16_224", lr=5e-4)
        torch.save({"model": student, "epoch": 3, "args": args}, file)
        return
    # fairseq keeps the teacher as a dictionary within the dictionary.
    model = collections.OrderedDict()
    for name, tensor in tensors.items():
        outer, found, inner = name.partition("_ema.")
        if found:
            model.setdefault(f"{outer}_ema", collections.OrderedDict())[inner] = tensor
        else:
            model[name] = tensor
    save(model, config, file)


def finetuned(case, file, head_file):
    """Writes a fine-tuned model, which lacks teacher, decoder and prediction head."""
    tensors, config, case_json = read_case(case)
    pretraining = ("_ema.", "final_proj.", ".decoder.", "regression_head.")
    tensors = {k: v for k, v in tensors.items() if not any(name in k for name in pretraining)}
    run = {"_name": None, "common": {"seed": 1}, "task": {"normalize": True}, "model": config}
    torch.manual_seed(3)
    wide = config.get("embed_dim") or config.get("encoder_embed_dim")
    wide = wide or config["transformer"]["encoder"]["embed_dim"]

    def linear(n_in, n_out):
        return {"weight": torch.randn(n_out, n_in), "bias": torch.randn(n_out)}

    def below(prefix, values):
        return {f"{prefix}.{name}": value for name, value in values.items()}

    if case_json["modality"] == "audio":
        proj = linear(wide, 11)
        wrapper = {"_name": "wav2vec_ctc", "blank_weight": 0, "w2v_path": "/gone.pt", "w2v_args": run}
        names = {"w2v_encoder.proj": ("ctc", proj)}
        prefix = "w2v_encoder.w2v_model."
    elif case_json["modality"] == "text":
        heads = "classification_heads.sentence_classification_head"
        names = {
            f"{heads}.dense": ("sentence.pooler.dense", linear(wide, wide)),
            f"{heads}.out_proj": ("sentence.out_proj", linear(wide, 3)),
        }
        wrapper = {"_name": "data2vec_text_classification", "pretrained_model_args": run}
        prefix = "model."
    else:
        norm = {"weight": torch.randn(wide), "bias": torch.randn(wide)}
        names = {"fc_norm": ("fc_norm", norm), "head": ("head", linear(wide, 5))}
        wrapper = {"_name": "mae_image_classification", "pretrained_model_args": run}
        prefix = "model."
    model = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    ours = {}
    for theirs, (our, values) in names.items():
        model |= below(theirs, values)
        ours |= below(our, values)
    save(model, wrapper, file)
    save_file(ours, head_file)


def refused(folder):
    folder = pathlib.Path(folder)
    model = {"w2v_encoder.proj.weight": torch.ones(2, 3)}
    args = argparse.Namespace(arch="wav2vec_ctc", w2v_args=argparse.Namespace(dropout=0.1))
    old = {"args": args, "cfg": None, "model": model, "extra_state": {"epoch": 1}}
    torch.save(old, folder / "args")
    for kind, config in {
        "other": {"_name": "wav2vec_ctc", "w2v_args": {"model": {"_name": "wav2vec2"}}},
        "alone": {"_name": "wav2vec_ctc", "w2v_args": None},
        "seq2seq": {"_name": "wav2vec_seq2seq"},
    }.items():
        save(model, config, folder / kind)


def to_bin(folder, to):
    folder, to = pathlib.Path(folder), pathlib.Path(to)
    to.mkdir()
    shutil.copy(folder / "config.json", to)
    torch.save(load_file(folder / "model.safetensors"), to / "pytorch_model.bin")


def small(name):
    """Returns the config of a small model of the class `name`."""
    if "Audio" in name:
        return transformers.Data2VecAudioConfig(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
            conv_dim=[32] * 7, tdnn_dim=[8, 8, 12], tdnn_kernel=[5, 3, 1], tdnn_dilation=[1, 2, 1],
            classifier_proj_size=12, xvector_output_dim=6, num_labels=5, vocab_size=17,
            use_weighted_layer_sum="XVector" in name or "Frame" in name,
        )
    if "Text" in name:
        return transformers.Data2VecTextConfig(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
            vocab_size=60, max_position_embeddings=40, type_vocab_size=1,
            num_labels=2 if "Question" in name else 5,
        )
    return transformers.Data2VecVisionConfig(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=96,
        image_size=64, use_relative_position_bias=True, use_mask_token="Model" in name,
        use_mean_pooling="Model" not in name, out_indices=[0, 1, 2, 3], pool_scales=[1, 2],
        auxiliary_channels=8, num_labels=5,
    )


@torch.no_grad()
def at_random(to, *names):
    for name in names:
        random_model(name).save_pretrained(pathlib.Path(to) / name)


def random_model(name):
    torch.manual_seed(5)
    model = getattr(transformers, name)(small(name))
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(0.0, 0.2)
        elif key.endswith("num_batches_tracked"):
            value.fill_(7)
    return model


def older(name, to):
    model = random_model(name)
    model.save_pretrained(to)
    tensors = {}
    for name, tensor in model.state_dict().items():
        name = name.replace(".convolution.", ".conv.").replace(".normalization.", ".bn.")
        name = re.sub(r"psp_modules\.blocks\.(\d+)\.conv\.", r"psp_modules.\1.1.", name)
        tensors[name.replace("psp_bottleneck", "bottleneck")] = tensor
    save_file(tensors, pathlib.Path(to) / "model.safetensors", {"format": "pt"})


def defaults(file):
    configs = {
        modality: getattr(transformers, f"Data2Vec{modality}Config")().to_dict()
        for modality in ("Audio", "Text", "Vision")
    }
    pathlib.Path(file).write_text(json.dumps(configs))


def load(folder, name, **options):
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, **options)
    info = {key: value for key, value in info.items() if value}
    assert not info, f"{folder}: {info}"
    return model.eval()


def an_input(config):
    torch.manual_seed(1)
    if config.model_type == "data2vec-audio":
        return torch.randn(2, 8000)
    if config.model_type == "data2vec-text":
        shape = (2, 3, 11) if "MultipleChoice" in config.architectures[0] else (2, 11)
        return torch.randint(config.pad_token_id + 1, config.vocab_size, shape)
    return torch.randn(2, 3, config.image_size, config.image_size)


@torch.no_grad()
def same(*folders):
    for folder, other in zip(folders[::2], folders[1::2], strict=True):
        same_pair(folder, other)


def same_pair(folder, other):
    name = json.loads((pathlib.Path(folder) / "config.json").read_text())["architectures"][0]
    models = [load(path, name) for path in (folder, other)]
    outputs = [model(an_input(model.config)) for model in models]
    tensors = {key: value for key, value in outputs[0].items() if torch.is_tensor(value)}
    assert tensors
    for key, value in tensors.items():
        difference = (value - outputs[1][key]).abs().max().item()
        assert difference <= 1e-6 * value.abs().max().item(), (key, difference)
    labels = [model.config.id2label for model in models]
    assert labels[0] == labels[1], labels


@torch.no_grad()
def agrees(folder, name, file):
    tensors = load_file(file)
    options = {"add_pooling_layer": False} if name == "Data2VecTextModel" else {}
    model = load(folder, name, **options)
    given = tensors["input"].long() if name == "Data2VecTextModel" else tensors["input"]
    output = model(given)
    found = output.logits if "logits" in output else output.last_hidden_state
    if name == "Data2VecVisionModel":
        found = found[:, 1:]
    worst = (found - tensors["features"]).abs().max().item()
    assert worst <= 1e-5 * found.abs().max().item(), worst


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    commands = {
        "can": lambda: None,
        "fairseq": fairseq,
        "finetuned": finetuned,
        "refused": refused,
        "bin": to_bin,
        "random": at_random,
        "older": older,
        "defaults": defaults,
        "loads": load,
        "same": same,
        "agrees": agrees,
    }
    commands[command](*args)
