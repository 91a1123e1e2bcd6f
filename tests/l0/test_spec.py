"""Saved networks: the same after reading, and nothing read that is not on the white list."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import fx, nn

from l0.errors import InvalidSpec
from l0.shrinking.materialization import materialize
from l0.shrinking.spec import load_spec, save_spec
from l0.shrinking.white_list import LAYERS, OPERATIONS


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 6), nn.Linear(6, 7)
        self.out.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(4, momentum=None)
        self.drop = nn.Dropout(0.2)
        self.register_buffer("mask", torch.tril(torch.ones(4, 4)).bool(), persistent=False)
        self.out.bias.requires_grad_(False)

    def forward(self, tokens):
        x = self.drop(self.norm(self.embed(tokens)))
        scores = (x @ x.transpose(1, 2)).masked_fill(~self.mask, float("-inf"))
        places = torch.arange(4, device=tokens.device, dtype=torch.float32)
        return {"logits": self.out(scores.softmax(-1) @ x), "places": (places[1:], [tokens])}


TOKENS = torch.tensor([[1, 2, 3, 4], [0, 6, 6, 5]])


@pytest.fixture
def small():
    torch.manual_seed(0)
    network = Tied().eval()
    network.norm.running_mean.normal_()
    return materialize(network, [TOKENS])


@pytest.fixture
def folder(small, tmp_path):
    save_spec(small, tmp_path)
    return tmp_path


def change(folder, edit):
    """Edit the JSON of a saved network."""
    path = folder / "spec.json"
    spec = json.loads(path.read_text())
    edit(spec)
    path.write_text(json.dumps(spec))


def replace_weights(folder, edit):
    """Edit the tensors, and let the JSON vouch for them."""
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    change(folder, lambda spec: spec.update(weights=digest))


def test_a_saved_network_is_the_same_to_the_last_bit(small, folder):
    again = load_spec(folder)
    given, wanted = again(TOKENS), small(TOKENS)

    assert again.code == small.code
    assert str(again) == str(small)
    assert torch.equal(given["logits"], wanted["logits"])
    assert torch.equal(given["places"][0], wanted["places"][0])
    assert isinstance(given["places"], tuple)
    assert again.embed.weight is again.out.weight
    assert not again.out.bias.requires_grad
    assert again.norm.momentum is None
    assert "mask" not in again.state_dict()
    assert list(again.state_dict()) == list(small.state_dict())


def test_modes_are_kept(small, tmp_path):
    small.train()
    small.drop.eval()
    save_spec(small, tmp_path)
    again = load_spec(tmp_path)

    assert again.training
    assert again.norm.training
    assert not again.drop.training


def test_every_kind_of_layer_can_be_saved(tmp_path):
    settings = {
        "Linear": (3, 2),
        "Embedding": (5, 2),
        "GroupNorm": (2, 4),
        "ReducedLayerNorm": ((3,), 5),
        "Attention": (0.1,),
        "PReLU": (3,),
    }
    usual = {"Conv": (4, 6, 3), "Batc": (4,), "Inst": (4,), "Laye": ((2, 3),), "RMSN": (3,)}
    for kind in LAYERS:
        name = kind.__name__
        args = settings.get(name, usual.get(name[:4], (3, 4) if kind in RECURRENT else ()))
        more = {"groups": 2, "padding": 1} if name.startswith("Conv") else {}
        graph = fx.Graph()
        called = graph.call_module("layer.inner", (graph.placeholder("x"),))
        graph.output(called)
        root = nn.Module()
        root.layer = nn.Module()
        root.layer.inner = kind(*args, **more)
        network = fx.GraphModule(root, graph)
        save_spec(network, tmp_path)
        again = load_spec(tmp_path)
        assert type(again.layer.inner) is kind
        assert repr(again.layer.inner) == repr(network.layer.inner)
        for key, value in network.state_dict().items():
            assert torch.equal(again.state_dict()[key], value)


RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


def test_every_operation_on_the_white_list_exists():
    assert [name for name in sorted(OPERATIONS) if not hasattr(torch.ops.aten, name)] == []


def test_what_is_not_on_the_white_list_is_not_saved(tmp_path):
    graph = fx.Graph()
    graph.output(graph.call_function(os.getpid))
    with pytest.raises(InvalidSpec, match=r"getpid.*is not on the white list"):
        save_spec(fx.GraphModule(nn.Module(), graph), tmp_path)

    graph = fx.Graph()
    graph.output(graph.call_module("pool", (graph.placeholder("x"),)))
    root = nn.Module()
    root.pool = nn.MaxPool2d(2)
    with pytest.raises(InvalidSpec, match=r"'pool' is a MaxPool2d, .* not on the white list"):
        save_spec(fx.GraphModule(root, graph), tmp_path)
    assert list(tmp_path.iterdir()) == []


def node(spec, kind):
    return next(entry for entry in spec["nodes"] if entry["op"] == kind)


def rename_drop(spec, name):
    spec["layers"][name] = spec["layers"].pop("drop")
    next(entry for entry in spec["nodes"] if entry.get("target") == "drop")["target"] = name


HOSTILE = {
    "a function of the system": lambda spec: node(spec, "call_function").update(target="os.system"),
    "an operation that reads files": lambda spec: node(spec, "call_function").update(
        target="aten.from_file.default"
    ),
    "a private name": lambda spec: node(spec, "call_function").update(target="aten.__class__.x"),
    "another overload": lambda spec: node(spec, "call_function").update(target="aten.add.__init__"),
    "a method": lambda spec: node(spec, "call_function").update(op="call_method", target="numpy"),
    "a program for a name": lambda spec: node(spec, "placeholder").update(
        target="x=__import__('os').getpid()"
    ),
    "a program for a value": lambda spec: node(spec, "call_module").update(name="a; import os"),
    "a keyword": lambda spec: node(spec, "placeholder").update(target="lambda"),
    "a layer that is not there": lambda spec: node(spec, "call_module").update(target="forward"),
    "a tensor that is not there": lambda spec: node(spec, "get_attr").update(target="__dict__"),
    "a value that is not there": lambda spec: node(spec, "call_module").update(
        args=[{"node": "nowhere"}]
    ),
    "a value of an unknown kind": lambda spec: node(spec, "call_module").update(
        args=[{"pickle": "gASV"}]
    ),
    "an unknown type": lambda spec: node(spec, "call_module").update(args=[{"dtype": "os"}]),
    "a layer that is a class of its own": lambda spec: spec["layers"]["out"].update(type="Popen"),
    "a program for a layer": lambda spec: rename_drop(spec, 'drop" if print() else "drop'),
    "settings of another layer": lambda spec: spec["layers"]["out"]["settings"].update(out=3),
    "a setting that is not listed": lambda spec: spec["layers"]["out"]["settings"].update(
        dtype={"dtype": "float16"}
    ),
    "settings of a wrong type": lambda spec: spec["layers"]["drop"]["settings"].update(p="0.5"),
    "sizes that do not fit": lambda spec: spec["layers"]["out"]["settings"].update(in_features=9),
    "no tensor for a layer": lambda spec: spec["tensors"].pop("embed.weight"),
    "a tensor from nowhere": lambda spec: spec["tensors"]["mask"].update(tensor="elsewhere"),
    "no nodes": lambda spec: spec.pop("nodes"),
    "nodes of a wrong type": lambda spec: spec.update(nodes=3),
    "a name of the network": lambda spec: spec.update(name="A; import os"),
    "another format": lambda spec: spec.update(format="tar"),
    "a later version": lambda spec: spec.update(version=2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_on_the_white_list_is_not_read(folder, name):
    change(folder, HOSTILE[name])
    with pytest.raises(InvalidSpec):
        load_spec(folder)


def test_errors_say_what_is_wrong(folder):
    change(folder, HOSTILE["a function of the system"])
    with pytest.raises(InvalidSpec, match=r"`os\.system` is not on the white list of operations"):
        load_spec(folder)
    change(folder, HOSTILE["a later version"])
    with pytest.raises(InvalidSpec, match="Install the release"):
        load_spec(folder)


def test_damaged_files_are_noticed(folder):
    weights = folder / "weights.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InvalidSpec, match="damaged, or belongs to another"):
        load_spec(folder)

    digest = hashlib.sha256(b"nothing").hexdigest()
    weights.write_bytes(b"nothing")
    change(folder, lambda spec: spec.update(weights=digest))
    with pytest.raises(InvalidSpec):
        load_spec(folder)

    (folder / "spec.json").write_text('{"format": "l0 netw')
    with pytest.raises(InvalidSpec, match="is damaged"):
        load_spec(folder)
    (folder / "spec.json").write_text("[]")
    with pytest.raises(InvalidSpec, match="not a saved network"):
        load_spec(folder)
    weights.unlink()
    with pytest.raises(InvalidSpec, match=r"No such file.*weights\.safetensors"):
        load_spec(folder)


def test_tensors_of_another_shape_are_noticed(folder):
    replace_weights(folder, lambda tensors: tensors.update({"out.bias": torch.zeros(8)}))
    with pytest.raises(InvalidSpec, match=r"'out.bias' is \(8,\), where the layer needs \(7,\)"):
        load_spec(folder)


def test_a_failed_save_leaves_the_old_network(small, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_):
        raise OSError("no space left")

    with torch.no_grad():
        small.out.bias += 1
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        save_spec(small, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_again_replaces_the_network(small, folder):
    with torch.no_grad():
        small.out.bias += 1
    save_spec(small, folder)

    assert torch.equal(load_spec(folder).out.bias, small.out.bias)
    assert sorted(path.name for path in folder.iterdir()) == ["spec.json", "weights.safetensors"]


def test_a_network_is_made_on_the_device_that_is_asked_for(folder):
    network = load_spec(folder, device="meta")

    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert network(TOKENS.to("meta"))["places"][0].device.type == "meta"
