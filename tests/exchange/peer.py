"""The other side of the exchange: writes checkpoints as the projects do, and loads what we export.

    peer.py can                       whether the libraries are here
    peer.py fairseq CASE FILE         a fairseq (or data2vec_vision) checkpoint of a parity case
    peer.py bin FOLDER TO             a Hugging Face folder with pytorch_model.bin
    peer.py same FOLDER OTHER         both load without a missing or unexpected key and agree
    peer.py agrees FOLDER CLASS FILE  the class's last hidden state of FILE's `input` is its `features`
"""

import collections
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()


class Dictionary:
    """Stands for a class of fairseq's that a reader of checkpoints must step over."""

    def __init__(self):
        self.symbols = ["<s>", "<pad>"]


def fairseq(case, file):
    case = pathlib.Path(case)
    config = json.loads((case / "config.json").read_text())["model"]
    tensors = load_file(case / "weights.safetensors")
    told = json.loads((case / "case.json").read_text())
    if told["modality"] == "image" and told["method"].endswith("1"):
        student = {k: v for k, v in tensors.items() if not k.startswith("_ema.")}
        torch.save({"model": student, "epoch": 3, "args": None}, file)
        return
    # fairseq keeps the teacher as a dictionary within the dictionary.
    model = collections.OrderedDict()
    for name, tensor in tensors.items():
        outer, found, inner = name.partition("_ema.")
        if found:
            model.setdefault(f"{outer}_ema", collections.OrderedDict())[inner] = tensor
        else:
            model[name] = tensor
    if "modality" in config:
        config["modalities"] = {config["supported_modality"].lower(): config.pop("modality")}
        config["_name"] = "data2vec_multi"
    else:
        config["_name"] = f"data2vec_{told['modality']}"
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


def to_bin(folder, to):
    folder, to = pathlib.Path(folder), pathlib.Path(to)
    to.mkdir()
    shutil.copy(folder / "config.json", to)
    torch.save(load_file(folder / "model.safetensors"), to / "pytorch_model.bin")


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
        return torch.randint(config.pad_token_id + 1, config.vocab_size, (2, 11))
    return torch.randn(2, 3, config.image_size, config.image_size)


@torch.no_grad()
def same(folder, other):
    name = json.loads((pathlib.Path(folder) / "config.json").read_text())["architectures"][0]
    models = [load(path, name) for path in (folder, other)]
    outputs = [model(an_input(model.config)) for model in models]
    for key, value in outputs[0].items():
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
    found = model(given).last_hidden_state
    if name == "Data2VecVisionModel":
        found = found[:, 1:]
    worst = (found - tensors["features"]).abs().max().item()
    assert worst <= 1e-5 * found.abs().max().item(), worst


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    {"can": lambda: None, "fairseq": fairseq, "bin": to_bin, "same": same, "agrees": agrees}[command](*args)
