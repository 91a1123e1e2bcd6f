"""MNIST in memory, from an NPZ file or from a folder of IDX files."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# The last images of the training set are for choices; the network never trains on them.
N_VALIDATION = 5_000
IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@dataclass(frozen=True)
class Images:
    """Images in [0, 1], shape (n, 1, 28, 28), and their digits, shape (n,)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice) -> "Images":
        return Images(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Mnist:
    """The three parts: to train on, to choose by, and to report."""

    train: Images
    validation: Images
    test: Images


def load(path: Path, n_validation: int = N_VALIDATION) -> Mnist:
    """Read `mnist.npz`, or the four IDX files (gzipped or not) in a folder."""
    if path.is_dir():
        arrays = {name: _idx(path, file) for name, file in IDX.items()}
    else:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in IDX}

    def images(part: str) -> Images:
        pixels = torch.from_numpy(arrays[f"x_{part}"]).float().div_(255).unsqueeze(1)
        return Images(pixels, torch.from_numpy(arrays[f"y_{part}"].astype(np.int64)))

    known = images("train")
    return Mnist(known[:-n_validation], known[-n_validation:], images("test"))


def _idx(folder: Path, name: str) -> np.ndarray:
    for path in (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")):
        if path.exists():
            content = path.read_bytes()
            break
    else:
        raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz")
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    n_axes = content[3]
    shape = np.frombuffer(content, ">u4", n_axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape).copy()
