"""The job of `make train` as a PyTorch program: LeNet-5, a DataLoader and a test after each epoch.

    python -m benchmarks.torch_job ARRAYS.npz EPOCHS BATCH

ARRAYS.npz: "train_images", "test_images" uint8 [N, H, W, 1] and "train_labels", "test_labels".
"""

import sys

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.plain_torch import lenet5

SIDE, PAD = 32, 2  # pixels of the network's input, and of the shifts that augment


class Shifted(Dataset):
    """Images [N, 1, SIDE, SIDE] cut at random from themselves padded by PAD, and their labels."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images, self.labels = F.pad(images, (PAD,) * 4), labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        i, j = torch.randint(0, 2 * PAD + 1, (2,)).tolist()
        return self.images[index, :, i : i + SIDE, j : j + SIDE], self.labels[index]


def main() -> None:
    path, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    arrays = np.load(path, allow_pickle=False)
    parts = {}
    for name in ("train", "test"):
        images = torch.from_numpy(arrays[f"{name}_images"]).permute(0, 3, 1, 2).float() / 255
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear")
        parts[name] = (images, torch.from_numpy(arrays[f"{name}_labels"]).long())
    mean, deviation = parts["train"][0].mean(), parts["train"][0].std()
    sets = {name: ((images - mean) / deviation, labels) for name, (images, labels) in parts.items()}
    training = DataLoader(Shifted(*sets["train"]), batch, shuffle=True, drop_last=True)
    testing = DataLoader(TensorDataset(*sets["test"]), 512)
    model = lenet5()
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(training))
    for _ in range(epochs):
        model.train()
        for images, labels in training:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            wrong = sum(
                (model(images).argmax(1) != labels).sum().item() for images, labels in testing
            )
    print(f"{wrong} of {len(sets['test'][1])} test images are wrong")


if __name__ == "__main__":
    main()
