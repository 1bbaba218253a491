"""Training steps of a data2vec 2.0 recipe: Understudy compared with PyTorch, in turns, on the same inputs.

    cargo build --bench train_step            # prints the path of the binary
    python benches/train_step.py BINARY configs/tiny-image.toml [--rounds 5] [--steps 8]

PyTorch eager, float32: scaled_dot_product_attention, fused AdamW on its own parameters, and the
teacher by torch._foreach_lerp_. The first losses are compared before anything is timed.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def block(p, name, x, heads, eps):
    b, s, d = x.shape
    qkv = F.linear(x, p[f"{name}.attn.qkv.weight"], p[f"{name}.attn.qkv.bias"])
    q, k, v = qkv.view(b, s, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, d)
    x = x + F.linear(y, p[f"{name}.attn.proj.weight"], p[f"{name}.attn.proj.bias"])
    x = F.layer_norm(x, (d,), p[f"{name}.norm1.weight"], p[f"{name}.norm1.bias"], eps)
    h = F.gelu(F.linear(x, p[f"{name}.mlp.fc1.weight"], p[f"{name}.mlp.fc1.bias"]))
    h = F.linear(h, p[f"{name}.mlp.fc2.weight"], p[f"{name}.mlp.fc2.bias"])
    x = F.layer_norm(x + h, (d,), p[f"{name}.norm2.weight"], p[f"{name}.norm2.bias"], eps)
    return x, h


def sin_cos(grid, dim):
    omega = 10000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    parts = []
    for place in (columns, rows):
        angle = place.reshape(-1, 1).double() * omega
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, 1).float()


class Model:
    def __init__(self, recipe, tensors):
        config = recipe["model"]["data2vec2"]
        self.image, self.dec, self.targets_config = config["image"], config["decoder"], config["targets"]
        self.config, self.optim = config, recipe["optim"]
        self.student = {k: v.clone().requires_grad_() for k, v in tensors.items()}
        self.teacher = {k: v.clone() for k, v in tensors.items() if not k.startswith("decoder.")}
        self.positions = sin_cos(self.image["image_size"] // self.image["patch_size"], self.image["embed_dim"])
        self.adamw = torch.optim.AdamW(
            self.student.values(), lr=self.optim["lr"], betas=tuple(self.optim["betas"]),
            eps=self.optim["eps"], weight_decay=self.optim["weight_decay"], fused=True,
        )

    def local(self, p, images):
        w, b = p["encoder.patch_embed.proj.weight"], p["encoder.patch_embed.proj.bias"]
        return F.conv2d(images, w, b, stride=self.image["patch_size"]).flatten(2).transpose(1, 2)

    def encode(self, p, patches):
        heads, eps, d = self.image["n_heads"], self.image["norm_eps"], self.image["embed_dim"]
        x = torch.cat([p["encoder.cls_token"].expand(len(patches), 1, d), patches], 1)
        x = F.layer_norm(x, (d,), p["encoder.context.norm.weight"], p["encoder.context.norm.bias"], eps)
        for i in range(self.image["prenet_depth"]):
            x, _ = block(p, f"encoder.context.blocks.{i}", x, heads, eps)
        outputs = []
        for i in range(self.image["depth"]):
            x, h = block(p, f"encoder.blocks.{i}", x, heads, eps)
            outputs.append(h[:, 1:])
        return x, outputs

    @torch.no_grad()
    def targets(self, images):
        _, outputs = self.encode(self.teacher, self.local(self.teacher, images) + self.positions)
        last = outputs[-self.targets_config["top_k"]:]
        mean = sum(F.instance_norm(h.transpose(1, 2)).transpose(1, 2) for h in last) / len(last)
        return F.layer_norm(mean, mean.shape[-1:])

    def loss(self, images, masks, noise):
        targets = self.targets(images)
        b, n, d = targets.shape
        m = len(masks) // b
        patches = (self.local(self.student, images) + self.positions).repeat_interleave(m, 0)
        x, _ = self.encode(self.student, patches[~masks].view(b * m, -1, d))
        filled = x.new_empty(b * m, n, d)
        filled[~masks] = x[:, 1:].reshape(-1, d)
        filled[masks] = noise
        side = int(n ** 0.5)
        x_cls, y = x[:, 0], filled.transpose(1, 2).view(b * m, d, side, side)
        for i in range(self.dec["n_layers"]):
            w, bias = self.student[f"decoder.blocks.{i}.weight"], self.student[f"decoder.blocks.{i}.bias"]
            z = F.conv2d(y, w, bias, padding=self.dec["kernel"] // 2, groups=self.dec["groups"])
            z = F.gelu(F.layer_norm(z.permute(0, 2, 3, 1), z.shape[1:2]).permute(0, 3, 1, 2))
            y = z + y if z.shape == y.shape else z
        y = y.flatten(2).transpose(1, 2)[masks]
        predictions = F.linear(y, self.student["decoder.proj.weight"], self.student["decoder.proj.bias"])
        wanted = targets.repeat_interleave(m, 0)
        regression = (predictions - wanted[masks]).square().sum() / d ** 0.5
        per_row = masks.sum() // len(masks)
        cls = (x_cls - wanted.mean(1)).square().sum() / d ** 0.5
        cls = cls * self.config["cls_loss_weight"] * self.config["cls_batch"] * m * per_row
        return regression + cls, masks.sum()

    def step(self, images, masks, noise, decay):
        loss, count = self.loss(images, masks, noise)
        (loss / count).backward()
        if "clip_norm" in self.optim:
            torch.nn.utils.clip_grad_norm_(self.student.values(), self.optim["clip_norm"])
        self.adamw.step()
        self.adamw.zero_grad()
        with torch.no_grad():
            names = list(self.teacher)
            torch._foreach_lerp_([self.teacher[k] for k in names], [self.student[k] for k in names], 1 - decay)
        return loss.detach() / count


def pytorch(recipe, folder, steps):
    inputs = load_file(folder / "inputs.safetensors")
    model = Model(recipe, load_file(folder / "student.safetensors"))
    masks = inputs["masks"] > 0.5
    secs, first = [], None
    for _ in range(steps):
        start = time.perf_counter()
        loss = model.step(inputs["images"], masks, inputs["noise"], recipe["ema"]["decay"])
        first = loss.item() if first is None else first
        secs.append(time.perf_counter() - start)
    return first, secs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("recipe")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    recipe = tomllib.loads(pathlib.Path(args.recipe).read_text())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([args.binary, "prepare", args.recipe, folder], check=True)
        ours, theirs = [], []
        for round_idx in range(args.rounds):
            out = subprocess.run(
                [args.binary, "run", args.recipe, folder, str(args.steps)], check=True, capture_output=True
            )
            understudy = json.loads(out.stdout)
            loss, secs = pytorch(recipe, folder, args.steps)
            if abs(understudy["loss"] - loss) > 1e-4 * abs(loss):
                sys.exit(f"the losses differ: Understudy {understudy['loss']}, PyTorch {loss}")
            # The first steps warm caches and allocators up.
            ours.append(statistics.median(understudy["secs"][2:]))
            theirs.append(statistics.median(secs[2:]))
            print(f"round {round_idx}: Understudy {ours[-1]:.4f} s, PyTorch {theirs[-1]:.4f} s a step", flush=True)
    result = {
        "recipe": args.recipe,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "loss": loss,
        "understudy_secs": statistics.median(ours),
        "pytorch_secs": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
