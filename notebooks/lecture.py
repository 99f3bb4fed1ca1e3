# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The lecture on digits
#
# The story of [docs/lecture.md](../docs/lecture.md), small enough to run from top to bottom in
# under five minutes on two cores: `make notebook` writes it as `build/lecture.ipynb`, and
# `python notebooks/lecture.py` runs it as it stands. Each net is trained with one seed, so nothing
# here is a verdict: those are in the page, over seeds.

# %%
import os
import pathlib
import sys
import tempfile
from typing import Any

here = pathlib.Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "train.py").exists())
os.chdir(root)
sys.path.insert(0, str(root))

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax.traverse_util import flatten_dict

import models
from configs import files
from data import load_arrays
from inspection import cost, description
from train import train_and_evaluate
from training.trained import Trained, load

runs = pathlib.Path(tempfile.mkdtemp())


def trained(name: str, config: str, **overrides: object) -> tuple[Trained, dict[str, float]]:
    """Trains a config in a new folder; the network for use, and its last errors."""
    fields = {field.replace("__", "."): value for field, value in overrides.items()}
    _, result = train_and_evaluate(files.resolve(config, fields), runs / name)
    return load(runs / name), result["last"]


# %% [markdown]
# ## LeNet-5
#
# Sides shrink, channels grow, and the dense layers hold most of the 60,000 parameters.

# %%
print("\n".join(description.page(description.describe({"name": "lenet5_modern"}))))

# %%
lenet, last = trained("lenet", "configs/lenet5.py:data=digits")
print(f"test error {100 * last['test_error']:.2f}%")

# %% [markdown]
# What it gets wrong:

# %%
images, labels = load_arrays("digits", "test")
wrong = np.flatnonzero(lenet.predict(images) != labels)[:6]
figure, axes = plt.subplots(1, 6, figsize=(9, 1.8))
for place, index in zip(axes, wrong, strict=False):
    place.imshow(images[index, ..., 0], cmap="gray_r")
    place.set_title(f"{labels[index]}, not {lenet.predict(images[index : index + 1])[0]}")
for place in axes:
    place.axis("off")
plt.show()

# %% [markdown]
# ## AlexNet and VGG
#
# The same idea, a thousand times larger. Parameters are in the dense layers, multiply-adds in the
# convolutions: 138 million are VGG's parameters, not its multiplications.

# %%
costs = {
    name: cost.measure(models.create({"name": name}))
    for name in ("lenet5_1998", "alexnet_2012", "vgg_D", "googlenet_2014", "resnet50_v1")
}
for name, found in costs.items():
    print(f"{name:15} {found.params:12,} parameters {found.multiply_adds:15,} multiply-adds")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
convolutions = [row for row in costs["vgg_D"].layers if row.kind == "conv"]
sides = [row.output[0] for row in convolutions]
axes[0].plot(sides, "o-", label="side")
axes[0].plot([row.output[2] for row in convolutions], "o-", label="channels")
axes[0].set(title="VGG-16, convolution by convolution", yscale="log", xlabel="convolution")
axes[0].legend()
kinds = ("conv", "dense")
rows = costs["vgg_D"].layers
for offset, of in ((-0.2, "params"), (0.2, "multiply_adds")):
    shares = [sum(getattr(row, of) for row in rows if row.kind == kind) for kind in kinds]
    share = 100 * np.array(shares) / getattr(costs["vgg_D"], of)
    axes[1].bar(np.arange(2) + offset, share, 0.4, label=of.replace("_", "-"))
axes[1].set_xticks(range(2), ["convolutions", "dense layers"])
axes[1].set(title="VGG-16: where its numbers are", ylabel="%")
axes[1].legend()
plt.show()

# %% [markdown]
# ## ResNets
#
# Plain nets get worse with depth on the training images already; residual nets do not. First the
# gradient that reaches each 3×3 kernel at the start, 56 layers, then the errors after training.

# %%
digits, digit_labels = load_arrays("digits", "train")
batch = jnp.asarray(digits[:128], jnp.float32) / 255 - 0.5
answers = jax.nn.one_hot(digit_labels[:128], 10)


def kernel_gradients(name: str) -> list[float]:
    """The norm of the gradient of each 3×3 kernel at the start, from the first layer on."""
    network = models.create({"name": name, "input": digits.shape[1:], "initializer": "he"})
    variables = jax.jit(lambda key: network.init(key, batch, train=False))(jax.random.key(0))

    def loss(params: Any) -> jax.Array:
        others = {key: value for key, value in variables.items() if key != "params"}
        outputs, _ = network.apply(
            {"params": params, **others}, batch, train=True, mutable=["batch_stats"]
        )
        return -jnp.mean(jnp.sum(answers * jax.nn.log_softmax(outputs.logits), axis=-1))

    found = flatten_dict(jax.jit(jax.grad(loss))(variables["params"]), sep="/")
    order = [f"{row.name}/kernel" for row in cost.measure(network).layers if row.kind == "conv"]
    return [float(jnp.linalg.norm(found[layer])) for layer in order]


figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name in ("plain56_cifar10", "resnet56_cifar10_A"):
    axes.semilogy(kernel_gradients(name), label=name)
axes.set(title="Gradient of each kernel at the start", xlabel="layer", ylabel="norm")
axes.legend()
plt.show()

# %%
errors = {}
for kind, shortcut in (("plain", "none"), ("ResNet", "A")):
    for depth in (20, 56):
        config = f"configs/resnet_cifar.py:depth={depth},shortcut={shortcut},data=digits"
        _, last = trained(f"{kind}-{depth}", config)
        errors[f"{kind}-{depth}"] = 100 * last["train_error"], 100 * last["test_error"]
for name, (training, test) in errors.items():
    print(f"{name:10} training error {training:5.1f}%, test error {test:5.1f}%")

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.bar(list(errors), [training for training, _ in errors.values()])
axes.set(title="Training error after 330 steps", ylabel="%")
plt.show()

# %% [markdown]
# ## 1×1 convolutions and Inception
#
# A 1×1 convolution is one dense layer at every position:

# %%
network = models.create({"name": "lecture_conv1x1"})
volume = jax.random.normal(jax.random.key(0), (1, *network.input))
variables = network.init(jax.random.key(1), volume, train=False)
outputs: Any = network.apply(variables, volume, train=False, capture=("1x1",))
convolved = outputs.captured["1x1"]
weights = jax.tree.map(np.asarray, variables["params"]["1x1"])
dense = np.asarray(volume) @ weights["kernel"][0, 0] + weights["bias"]
np.testing.assert_allclose(convolved, dense, rtol=1e-4, atol=1e-5)
print(f"{volume.shape[1:]} to {convolved.shape[1:]}, equal at every position")

# %% [markdown]
# Before a 5×5 it saves nine tenths of the multiplications (which are not parameters):

# %%
for name in ("lecture_conv5x5", "lecture_conv5x5_bottleneck"):
    found = cost.measure(models.create({"name": name}))
    print(f"{name:27} {found.multiply_adds:12,} multiply-adds {found.params:8,} parameters")

# %% [markdown]
# An Inception module stacks the maps of four branches, and GoogLeNet is nine modules; its side
# branches are there in training only.

# %%
branches = {
    branch: row.output
    for row in costs["googlenet_2014"].layers
    for branch in ("1x1", "3x3", "5x5", "pool_proj")
    if row.name == f"inception_3a/{branch}"
}
print(branches, "together", sum(shape[2] for shape in branches.values()), "channels")
with_aux = cost.measure(models.create({"name": "googlenet_2014_with_aux"}))
print(f"{with_aux.params:,} parameters in training, {costs['googlenet_2014'].params:,} in use")

# %% [markdown]
# ## Transfer
#
# A net that was trained on the digits 0 to 4 learns 5 to 9 from ten labels each: a new head alone,
# on a trunk that stays as it is, against all layers from scratch. Lectures advise the head.

# %%
few = {"data__labels_a_class": 10, "duration": "200 steps", "batch_size": 20}
trained("trunk", "configs/lenet5.py:data=digits", data__name="digits:0-4", duration="20 epochs")
source = f"configs/finetune.py:from={runs / 'trunk'},data=digits:5-9,train=head"
for name, (_, last) in {
    "a new head": trained("head", source, **few),
    "from scratch": trained(
        "scratch", "configs/lenet5.py:data=digits", data__name="digits:5-9", **few
    ),
}.items():
    print(f"{name:12} test error {100 * last['test_error']:.1f}%")

# %% [markdown]
# ## Augmentation and ensembles
#
# Shifted copies stand for more data. Then three nets from other seeds, and their average:

# %%
some = {"data__train_images": 200, "duration": "300 steps"}
for name, calls in (("as they are", ()), ("shifted", ("pad_crop(pixels=1)",))):
    _, last = trained(name, "configs/lenet5.py:data=digits", data__augment=calls, **some)
    print(f"200 images {name:11} test error {100 * last['test_error']:.1f}%")

# %%
scores = []
for seed in range(3):
    net, last = trained(f"seed {seed}", "configs/lenet5.py:data=digits", seed=seed, **some)
    scores.append(jax.nn.softmax(net.apply(net.preprocess(images)).logits))
    print(f"seed {seed}: test error {100 * last['test_error']:.1f}%")
mean = np.mean(scores, axis=0).argmax(-1)
print(f"average of the three: {100 * np.mean(mean != labels):.1f}%, at three times the computation")
