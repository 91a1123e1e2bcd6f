"""Save a network of plain layers as JSON and safetensors, and build it again without pickle.

`spec.json` lists the layers with their settings and the operations between them, all by names on
a white list; `weights.safetensors` has the tensors. Reading runs nothing that a file brings along.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, fx, nn

from l0.errors import InvalidSpec
from l0.shrinking.white_list import DTYPES, LAYERS, LAYERS_BY_NAME, function_named, name_of_function

FORMAT = "l0 network"
VERSION = 1
SPEC, WEIGHTS = "spec.json", "weights.safetensors"


def save_spec(small: fx.GraphModule, folder: str | os.PathLike[str]) -> None:
    """Save a network that `materialize` made, so that it can be built without its classes.

    A file is replaced only when the new one is complete.

    Args:
        small: A graph of plain layers and operations.
        folder: Where `spec.json` and `weights.safetensors` go; made if it does not exist.

    Raises:
        InvalidSpec: If the network has a layer, operation or setting that is not on the white
            list.

    Examples:
        >>> from l0.shrinking.materialization import materialize
        >>> small = materialize(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), [torch.ones(2, 4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_spec(small, folder)
        ...     again = load_spec(folder)
        >>> torch.equal(small(torch.ones(2, 4)), again(torch.ones(2, 4)))
        True
    """
    tensors, entries = _tensors(small)
    data = save(tensors)
    spec = {
        "format": FORMAT,
        "version": VERSION,
        "name": type(small).__name__,
        "training": small.training,
        "weights": hashlib.sha256(data).hexdigest(),
        "layers": {name: _layer(name, part) for name, part in _layers(small)},
        "tensors": entries,
        "nodes": [_node(node) for node in small.graph.nodes],
    }
    text = json.dumps(spec, indent=1, allow_nan=False)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    _replace(place / WEIGHTS, data)
    _replace(place / SPEC, text.encode())


def load_spec(
    folder: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> fx.GraphModule:
    """Build a network that `save_spec` saved.

    Args:
        folder: Where `spec.json` and `weights.safetensors` are.
        device: Where the network goes, with the tensors that it makes itself.

    Returns:
        The network, with the very same weights, in the mode in which it was saved.

    Raises:
        InvalidSpec: If a file is missing or damaged, of a later version, does not fit the other,
            or names anything that is not on the white list.
    """
    place = Path(folder)
    try:
        data = (place / WEIGHTS).read_bytes()
        spec = json.loads((place / SPEC).read_bytes())
    except OSError as cause:
        raise InvalidSpec(
            f"{folder} is not a saved network: {cause.strerror}: {cause.filename}."
        ) from cause
    except ValueError as cause:
        raise InvalidSpec(f"{place / SPEC} is damaged: {cause}. Save the network again.") from cause
    _check_version(spec)
    if hashlib.sha256(data).hexdigest() != spec.get("weights"):
        raise InvalidSpec(
            f"{place / WEIGHTS} is damaged, or belongs to another {SPEC}. Save the network again."
        )
    try:
        return _Reading(spec, load(data), torch.device(device)).network()
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
    ) as cause:
        if isinstance(cause, InvalidSpec):
            raise
        raise InvalidSpec(f"{place / SPEC} does not describe a network: {cause!r}.") from cause


def _check_version(spec: Any) -> None:
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        raise InvalidSpec(f"this is not a saved network: its format is not {FORMAT!r}.")
    if spec.get("version") != VERSION:
        raise InvalidSpec(
            f"it is of version {spec.get('version')}, and version {VERSION} can be read here. "
            "Install the release of l0-python that wrote it."
        )


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside the old one, and put it in its place when it is complete."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Files of `mkstemp` are for their owner only.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# Writing


def _layers(small: fx.GraphModule) -> list[tuple[str, nn.Module]]:
    return [
        (name, part)
        for name, part in small.named_modules(remove_duplicate=False)
        if name and type(part) is not nn.Module
    ]


def _layer(name: str, layer: nn.Module) -> dict[str, Any]:
    if type(layer) not in LAYERS:
        raise InvalidSpec(f"{name!r} is a {type(layer).__name__}, which is not on the white list.")
    settings = {}
    for setting in LAYERS[type(layer)]:
        value = getattr(layer, setting)
        # `bias` is a tensor in most layers, and a switch in recurrent ones.
        if setting == "bias" and not isinstance(value, bool):
            value = value is not None
        settings[setting] = _written(value)
    return {"type": type(layer).__name__, "settings": settings, "training": layer.training}


def _tensors(small: fx.GraphModule) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Each tensor once, and for each name its tensor and what it is."""
    saved: dict[str, Tensor] = {}
    first: dict[int, str] = {}
    entries: dict[str, Any] = {}
    for owner, part in small.named_modules(remove_duplicate=False):
        own = {**part._parameters, **part._buffers}
        for role, tensor in own.items():
            if tensor is None:
                continue
            name = f"{owner}.{role}" if owner else role
            key = first.setdefault(id(tensor), name)
            if key == name:
                saved[key] = tensor.detach().cpu().contiguous().clone()
            entries[name] = {
                "tensor": key,
                "persistent": role not in part._non_persistent_buffers_set,
            }
            if role in part._parameters:
                entries[name] = {"tensor": key, "trainable": tensor.requires_grad}
    return saved, entries


def _node(node: fx.Node) -> dict[str, Any]:
    target = node.target if isinstance(node.target, str) else name_of_function(node.target)
    written = {"op": node.op, "name": node.name, "target": target}
    if node.op == "output":
        return {"op": "output", "args": _written(node.args[0])}
    if node.op in ("call_function", "call_module"):
        written |= {"args": _written(list(node.args)), "kwargs": _written(dict(node.kwargs))}
    return written


def _written(value: Any) -> Any:
    """A value as JSON; what JSON does not know is a dictionary with one tag."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) is tuple or isinstance(value, torch.Size):
        return {"tuple": [_written(part) for part in value]}
    if isinstance(value, list) and not hasattr(value, "_fields"):
        return [_written(part) for part in value]
    if isinstance(value, Mapping):
        return {"dict": [[_written(key), _written(part)] for key, part in value.items()]}
    if isinstance(value, slice):
        return {"slice": [_written(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype) and value in DTYPES.values():
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "here"}  # All of a network is on one device: where it is loaded to.
    if value is torch.strided:
        return {"layout": "strided"}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    raise InvalidSpec(f"a {type(value).__name__} ({value}) cannot be saved.")


# Reading


class _Reading:
    """A network as it is built from what the files say, checked word by word."""

    def __init__(
        self, spec: dict[str, Any], saved: dict[str, Tensor], device: torch.device
    ) -> None:
        self.spec, self.device = spec, device
        self.saved = {name: tensor.to(device) for name, tensor in saved.items()}
        self.root = nn.Module()
        self.layers: dict[str, nn.Module] = {}
        self.nodes: dict[str, fx.Node] = {}
        self.graph = fx.Graph()

    def network(self) -> fx.GraphModule:
        for name, entry in sorted(self.spec["layers"].items(), key=lambda item: item[0].count(".")):
            self.add_layer(name, entry)
        self.add_tensors(self.spec["tensors"])
        for entry in self.spec["nodes"]:
            self.add_node(entry)
        self.graph.lint()
        small = fx.GraphModule(self.root, self.graph, class_name=_identifier(self.spec["name"]))
        for name, entry in self.spec["tensors"].items():
            owner, _, role = name.rpartition(".")
            if entry.get("persistent") is False:
                small.get_submodule(owner)._non_persistent_buffers_set.add(role)
        small.train(self.spec["training"] is True)
        for name, entry in self.spec["layers"].items():
            small.get_submodule(name).training = entry["training"] is True
        return small

    def add_layer(self, name: str, entry: Any) -> None:
        kind = LAYERS_BY_NAME.get(entry["type"])
        if kind is None:
            raise InvalidSpec(f"{name!r} is a {entry['type']}, which is not on the white list.")
        settings = {key: self.read(value) for key, value in entry["settings"].items()}
        if set(settings) != set(LAYERS[kind]):
            raise InvalidSpec(f"{name!r} has settings {sorted(settings)}: not those of a layer.")
        owner, _, last = _dotted(name).rpartition(".")
        with torch.device("meta"):
            self.layers[name] = kind(**settings)
        self.container(owner).add_module(last, self.layers[name])

    def container(self, name: str) -> nn.Module:
        part = self.root
        for step in filter(None, name.split(".")):
            if step not in part._modules:
                part.add_module(step, nn.Module())
            part = part.get_submodule(step)
        return part

    def add_tensors(self, entries: Mapping[str, Any]) -> None:
        parameters: dict[str, nn.Parameter] = {}
        for name, entry in entries.items():
            owner, _, role = _dotted(name).rpartition(".")
            part, value = self.container(owner), self.saved[entry["tensor"]]
            before = {**part._parameters, **part._buffers}.get(role)
            if before is not None and before.shape != value.shape:
                raise InvalidSpec(
                    f"{name!r} is {tuple(value.shape)}, where the layer needs "
                    f"{tuple(before.shape)}."
                )
            if "trainable" not in entry:
                part.register_buffer(role, value)
                continue
            parameter = parameters.setdefault(
                entry["tensor"], nn.Parameter(value, requires_grad=entry["trainable"] is True)
            )
            if role in part._parameters:
                # By assignment: recurrent layers keep a list of their parameters with it.
                setattr(part, role, parameter)
            else:
                part.register_parameter(role, parameter)
        needed = [
            *self.root.named_parameters(remove_duplicate=False),
            *self.root.named_buffers(remove_duplicate=False),
        ]
        for name, _ in needed:
            if name not in entries:
                raise InvalidSpec(f"{name!r} is missing.")

    def add_node(self, entry: Any) -> None:
        if entry["op"] == "output":
            self.graph.output(self.read(entry["args"]))
            return
        name, target = _identifier(entry["name"]), entry["target"]
        if name in self.nodes:
            raise InvalidSpec(f"two operations are named {name!r}.")
        args, kwargs = (), {}
        if entry["op"] in ("call_function", "call_module"):
            args, kwargs = tuple(self.read(entry["args"])), self.read(entry["kwargs"])
        if entry["op"] == "call_function":
            target = function_named(target)
        elif entry["op"] == "placeholder":
            _identifier(target)
        elif entry["op"] == "call_module" and target not in self.layers:
            raise InvalidSpec(f"{target!r} is called, but is no layer.")
        elif entry["op"] == "get_attr" and target not in self.spec["tensors"]:
            raise InvalidSpec(f"{target!r} is read, but is no tensor.")
        elif entry["op"] not in ("call_module", "get_attr"):
            raise InvalidSpec(f"{entry['op']!r} is no kind of operation.")
        self.nodes[name] = self.graph.create_node(entry["op"], target, args, kwargs, name=name)

    def read(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return [self.read(part) for part in value]
        ((tag, content),) = value.items()
        if tag == "node":
            return self.nodes[content]
        if tag == "tuple":
            return tuple(self.read(part) for part in content)
        if tag == "dict":
            return {self.read(key): self.read(part) for key, part in content}
        if tag == "slice":
            return slice(*(self.read(part) for part in content))
        if tag == "dtype":
            return DTYPES[content]
        if tag == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if tag == "device" and content == "here":
            return self.device
        if tag == "layout" and content == "strided":
            return torch.strided
        if tag == "memory_format" and content in _MEMORY_FORMATS:
            return getattr(torch, content)
        raise InvalidSpec(f"{tag!r} is no kind of value.")


_MEMORY_FORMATS = ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
_STEP = re.compile(r"[A-Za-z0-9_]+")


def _identifier(name: Any) -> str:
    """A name that is safe in the program that is written for the graph."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidSpec(f"{name!r} is not the name of a value.")
    return name


def _dotted(name: str) -> str:
    if not all(_STEP.fullmatch(step) for step in name.split(".")):
        raise InvalidSpec(f"{name!r} is not the name of a layer or tensor.")
    return name
