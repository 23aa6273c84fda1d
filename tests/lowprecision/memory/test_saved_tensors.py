"""The count against what a real forward pass on the CPU saves, for networks of many kinds."""

from __future__ import annotations

import copy
import random
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F  # noqa: N812
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.lowprecision import memory_vector, training_memory

EIGHT = Precision.parse("1-4-3", "1-6-9")
"""8 bits: bytes are numbers."""


def really_saved(model: nn.Module, *arguments: Any, **keywords: Any) -> int:
    """Floats that a real forward pass saves, parameters and buffers aside."""
    model.train()
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        values = tensor.coalesce().values() if tensor.is_sparse else tensor
        if values.is_floating_point() or values.is_complex():
            saved[values.untyped_storage().data_ptr()] = values
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        output = model(*arguments, **keywords)
    del output
    return sum(
        t.untyped_storage().nbytes() // t.element_size() * (2 if t.is_complex() else 1)
        for storage, t in saved.items()
        if storage not in own
    )


def counted(model: nn.Module, inputs: Any) -> int:
    return training_memory(model, inputs=inputs, precision=EIGHT).activations


class Net(nn.Module):
    """A network made of layers and a function of them."""

    def __init__(self, use: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.use = use
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *arguments: Any) -> Any:
        return self.use(self, *arguments)


def heads(x: Tensor, number: int, width: int) -> Tensor:
    return x.view(*x.shape[:2], number, width).transpose(1, 2)


def attention(**options: Any) -> tuple[nn.Module, Tensor]:
    """Two queries to a key head of width 4 where queries are grouped, else as many."""
    grouped = options.get("enable_gqa", False)
    keys = 2 if grouped else 4

    def use(net: Any, x: Tensor) -> Tensor:
        q, k, v = net.q(x), net.k(x), net.v(x)
        q, k, v = heads(q, 4, 4), heads(k, keys, 4), heads(v, keys, 4)
        return scaled_dot_product_attention(q, k, v, **options).mean((1, 2))

    net = Net(use, q=nn.Linear(6, 16), k=nn.Linear(6, 4 * keys), v=nn.Linear(6, 4 * keys))
    return net, torch.randn(3, 20, 6)


TWENTY = torch.ones(20, 20, dtype=torch.bool).tril()
ATTENTION: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "boolean mask": {"attn_mask": TWENTY},
    "float mask": {"attn_mask": torch.zeros(20, 20)},
    "mask of every head": {"attn_mask": torch.zeros(3, 4, 20, 20)},
    "trained mask": {"attn_mask": torch.zeros(20, 20, requires_grad=True)},
    "dropout": {"dropout_p": 0.3},
    "causal with dropout": {"is_causal": True, "dropout_p": 0.3},
    "scale": {"scale": 0.1},
    "grouped queries": {"enable_gqa": True},
    "grouped queries, causal": {"enable_gqa": True, "is_causal": True},
    "grouped queries, mask": {"enable_gqa": True, "attn_mask": TWENTY},
}


@pytest.mark.parametrize("options", ATTENTION.values(), ids=ATTENTION)
def test_attention(options: dict[str, Any]) -> None:
    net, x = attention(**options)
    assert counted(net, x) == really_saved(net, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_attention_in_other_dtypes(dtype: torch.dtype) -> None:
    net, x = attention()
    net.to(dtype)
    expected = really_saved(net, x.to(dtype))
    assert counted(net, x.to(dtype)) == expected
    # The sizes alone are taken in the dtype of the weights.
    assert training_memory(net, (20, 6), 3, EIGHT).activations == expected


def test_attention_by_the_kernel_that_is_asked_for() -> None:
    """Weights of T x T are kept by the kernel that writes them down, and counted then."""
    net, x = attention()
    # The input, queries, keys and values, the output, and the sums of every row.
    assert counted(net, x) == 3 * 20 * (6 + 3 * 16 + 16 + 4)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert counted(net, x) == really_saved(net, x) == 3 * 20 * (6 + 3 * 16 + 4 * 20)


PADDING = torch.arange(10).expand(3, 10) >= torch.tensor([[10], [7], [4]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(10)
MULTIHEAD: dict[str, dict[str, Any]] = {
    "weights": {"need_weights": True},
    "weights of every head": {"need_weights": True, "average_attn_weights": False},
    "no weights": {"need_weights": False},
    "padding": {"need_weights": False, "key_padding_mask": PADDING},
    "padding and weights": {"need_weights": True, "key_padding_mask": PADDING},
    "causal": {"need_weights": False, "attn_mask": CAUSAL, "is_causal": True},
    "causal and weights": {"need_weights": True, "attn_mask": CAUSAL, "is_causal": True},
    "boolean mask": {"need_weights": False, "attn_mask": CAUSAL < 0},
    "both masks": {"need_weights": False, "attn_mask": CAUSAL < 0, "key_padding_mask": PADDING},
}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("options", MULTIHEAD.values(), ids=MULTIHEAD)
def test_multihead_attention(options: dict[str, Any], dropout: float) -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=dropout, batch_first=True)
    net, x = Net(lambda net, x: net.layer(x, x, x, **options), layer=layer), torch.randn(3, 10, 8)
    assert counted(net, x) == really_saved(net, x)


def transformer(layers: int = 2) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Tables(nn.Module):
    """A transformer as people write them: tables and masks made on the fly or kept as tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.encoder = nn.Embedding(30, 16), transformer()
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embedding.weight
        self.scales = [torch.rand(16), {"last": torch.rand(16)}]

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        length = tokens.shape[1]
        position = torch.arange(length, device=tokens.device)[:, None]
        frequency = torch.exp(torch.arange(0, 16, 2, device=tokens.device) * -0.1)
        table = torch.zeros(length, 16, device=tokens.device)
        table[:, 0::2], table[:, 1::2] = torch.sin(position * frequency), torch.cos(position)
        mask = torch.triu(torch.full((length, length), float("-inf")), diagonal=1)
        x = self.embedding(tokens) * self.scales[0] + table
        x = self.encoder(x, mask=mask, is_causal=True)
        assert isinstance(self.scales[1], dict)
        return {"logits": self.head(x * self.scales[1]["last"]), "hidden": x}


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.reentrant, self.last = nn.Linear(8, 16), reentrant, nn.Linear(16, 3)
        self.block = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.block, self.first(x), use_reentrant=self.reentrant)
        y: Tensor = self.last(x)
        return y


def autocast(net: Any, x: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return net.b(net.a(x).relu())


def offloaded(net: Any, x: Tensor) -> Any:
    with torch.autograd.graph.save_on_cpu():
        x = net.a(x).relu()
    return net.b(x)


def linears(middle: int = 16) -> dict[str, nn.Module]:
    return {"a": nn.Linear(8, middle), "b": nn.Linear(middle, 4)}


def recurrent(layer: nn.Module, states: int = 0, size: int = 16) -> nn.Module:
    """Starts from zeros that the forward pass makes, or from the layer's own."""

    def use(net: Any, x: Tensor) -> Any:
        state = [torch.zeros(net.layer.num_layers, 5, size) for _ in range(states)]
        given = () if not state else (state[0],) if states == 1 else (tuple(state),)
        return net.layer(x, *given)[0]

    return Net(use, layer=layer)


def conv(*, norm: nn.Module | None = None) -> nn.Module:
    norm = norm if norm is not None else nn.BatchNorm2d(6)
    return nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.SiLU(), nn.Flatten(), nn.Linear(6 * 36, 5))


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(5, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.fft.fft(x * self.weight).abs() ** 2
        return y


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(8, 4))


def closed_over() -> nn.Module:
    net = nn.Linear(8, 4)
    inner = nn.Linear(8, 4)
    net.register_forward_hook(lambda module, inputs, output: output * inner(inputs[0]))
    net.forward = lambda x: F.linear(x, net.weight.clone().view(8, 4).t(), net.bias)  # type: ignore[assignment, method-assign]
    return net


def sparse(net: Any, x: Tensor) -> Any:
    return torch.sparse.mm(x.relu().to_sparse(), net.a.weight.t())


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(8, 4), nn.Tanh()))
    return script


def frozen() -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    net[0].requires_grad_(False)
    return net


def convolutional(norm: nn.Module) -> tuple[nn.Module, Tensor]:
    return conv(norm=norm), torch.randn(4, 3, 8, 8)


EIGHTS = torch.randn(5, 8)
TOKENS = torch.randint(30, (5, 12))
SEQUENCES = torch.randn(7, 5, 8)
NETWORKS: dict[str, tuple[nn.Module, Any]] = {
    "embedding": (nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 3)), TOKENS),
    "embedding with max_norm": (
        nn.Sequential(nn.Embedding(30, 8, max_norm=0.1), nn.Linear(8, 3)),
        TOKENS,
    ),
    "bag": (nn.Sequential(nn.EmbeddingBag(30, 8, mode="sum"), nn.Linear(8, 3)), TOKENS),
    "bag with offsets and weights": (
        nn.EmbeddingBag(30, 8, mode="sum"),
        (TOKENS[0], torch.tensor([0, 4, 9]), torch.rand(12, requires_grad=True)),
    ),
    "bag of maxima": (nn.EmbeddingBag(30, 8, mode="max"), TOKENS),
    "transformer with tables": (Tables(), TOKENS),
    "encoder and decoder": (
        nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
        (torch.randn(2, 6, 16), torch.randn(2, 7, 16)),
    ),
    "rnn": (recurrent(nn.RNN(8, 16)), SEQUENCES),
    "rnn from zeros": (recurrent(nn.RNN(8, 16, nonlinearity="relu"), 1), SEQUENCES),
    "gru": (recurrent(nn.GRU(8, 16, num_layers=2, dropout=0.2)), SEQUENCES),
    "gru from zeros": (recurrent(nn.GRU(8, 16), 1), SEQUENCES),
    "lstm": (recurrent(nn.LSTM(8, 16, bidirectional=True)), SEQUENCES),
    "lstm from zeros": (recurrent(nn.LSTM(8, 16), 2), SEQUENCES),
    "lstm with projections": (recurrent(nn.LSTM(8, 16, proj_size=4)), SEQUENCES),
    "lstm cell": (Net(lambda net, x: net.cell(x)[0], cell=nn.LSTMCell(8, 16)), EIGHTS),
    "batch norm": convolutional(nn.BatchNorm2d(6)),
    "batch norm, averaging all": convolutional(nn.BatchNorm2d(6, momentum=None)),
    "batch norm without statistics": convolutional(nn.BatchNorm2d(6, track_running_stats=False)),
    "group norm": convolutional(nn.GroupNorm(2, 6)),
    "instance norm": convolutional(nn.InstanceNorm2d(6)),
    "checkpoint": (Checkpointed(False), EIGHTS),
    "reentrant checkpoint": (Checkpointed(True), EIGHTS),
    "autocast": (Net(autocast, **linears()), EIGHTS),
    "save_on_cpu": (Net(offloaded, **linears()), EIGHTS),
    "spectral norm": (parametrizations.spectral_norm(nn.Linear(8, 4)), EIGHTS),
    "weight norm": (parametrizations.weight_norm(nn.Linear(8, 4)), EIGHTS),
    "orthogonal": (parametrizations.orthogonal(nn.Linear(8, 4)), EIGHTS),
    "old weight norm": (old_weight_norm(), EIGHTS),
    "old spectral norm": (nn.utils.spectral_norm(nn.Linear(8, 4)), EIGHTS),
    "frozen part": (frozen(), EIGHTS),
    "float64": (nn.Sequential(nn.Linear(8, 4), nn.Tanh()).double(), EIGHTS.double()),
    "parts of two dtypes": (
        Net(
            lambda net, x: net.b(net.a(x).tanh().double()),
            a=nn.Linear(8, 4),
            b=nn.Linear(4, 2).double(),
        ),
        EIGHTS,
    ),
    "complex": (Constant(), torch.randn(3, 5)),
    "views": (
        Net(lambda net, x: (net.a(x).view(5, 4, 4).transpose(1, 2) ** 2).unbind(1), **linears()),
        EIGHTS,
    ),
    "closures": (closed_over(), EIGHTS),
    "data parallel": (nn.DataParallel(nn.Sequential(nn.Linear(8, 4), nn.Tanh())), EIGHTS),
    "compiled": (torch.compile(nn.Sequential(nn.Linear(8, 4), nn.Tanh())), EIGHTS),  # type: ignore[dict-item]
    "traced by fx": (torch.fx.symbolic_trace(nn.Sequential(nn.Linear(8, 4), nn.Tanh())), EIGHTS),
    "a script": (scripted(), EIGHTS),
    "several inputs": (nn.Bilinear(8, 3, 4), (EIGHTS, torch.randn(5, 3))),
    "one list": (Net(lambda net, x: net.a(torch.stack(x)), a=nn.Linear(8, 4)), list(EIGHTS)),
    "input that is trained": (nn.Linear(8, 4), EIGHTS.clone().requires_grad_()),
    "no gradients in a part": (
        Net(lambda net, x: net.b(net.a(x).detach().relu()), **linears()),
        EIGHTS,
    ),
}
"""Those that run without data."""


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # said by the real pass
@pytest.mark.parametrize(("net", "inputs"), NETWORKS.values(), ids=NETWORKS)
def test_a_pass_without_data(net: nn.Module, inputs: Any) -> None:
    found = counted(net, inputs)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.random.fork_rng():
        assert found == really_saved(getattr(net, "_orig_mod", net), *arguments)


@torch.compile
def compiled(x: Tensor) -> Tensor:
    return x.sin().exp()


def test_what_is_compiled_counts_eager() -> None:
    net = Net(lambda net, x: net.b(compiled(net.a(x))), **linears())
    # The input; of sine its input, of the exponential its output, which the last layer keeps too.
    assert counted(net, EIGHTS) == 5 * (8 + 16 + 16)
    net.compile()
    assert counted(net, EIGHTS) == 5 * (8 + 16 + 16)


def selected(net: Any, x: Tensor) -> Any:
    return net.b(net.a(x)[x.sum(1) > 0].relu())


def checked(net: Any, x: Tensor) -> Any:
    assert not x.isnan().any()
    return net.b(net.a(x).relu())


def scaled(net: Any, x: Tensor) -> Any:
    return net.b(net.a(x).relu() * x.abs().max().item())


def branched(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    return net.b(y.tanh() if y.sum() > -1e9 else y)


def listed(net: Any, x: Tensor) -> Any:
    return net.b(net.a(x).sigmoid() * len(x.argmax(1).tolist()))


def in_numpy(net: Any, x: Tensor) -> Any:
    return net.b(net.a(torch.from_numpy(np.log1p(np.abs(x.numpy())))).relu())


def routed(net: Any, x: Tensor) -> Any:
    """Every input goes to the expert that likes it most."""
    experts = [net.a(x), net.a(x).relu()]
    chosen = torch.stack([e.sum(1) for e in experts]).argmax(0)
    return torch.cat([net.b(e[chosen == i]) for i, e in enumerate(experts)])


def dropped(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    return net.b(y.tanh() if torch.rand(1) < 2 else y)


def packed(net: Any, x: Tensor) -> Any:
    return net.layer(pack_padded_sequence(x, torch.tensor([7, 6, 3, 2, 1])))[0].data


def unpacked(net: Any, x: PackedSequence) -> Any:
    return net.layer(x)[0].data


LENGTHS = torch.tensor([7, 6, 3, 2, 1])
ASKING: dict[str, tuple[nn.Module, Any]] = {
    "a selection": (Net(selected, **linears()), EIGHTS),
    "a check": (Net(checked, **linears()), EIGHTS),
    "an item": (Net(scaled, **linears()), EIGHTS),
    "a branch": (Net(branched, **linears()), EIGHTS),
    "a list": (Net(listed, **linears()), EIGHTS),
    "numpy": (Net(in_numpy, **linears()), EIGHTS),
    "experts": (Net(routed, **linears()), EIGHTS),
    "a drawn layer": (Net(dropped, **linears()), EIGHTS),
    "packing": (Net(packed, layer=nn.GRU(8, 16)), SEQUENCES),
    "sparse tensors": (Net(sparse, **linears()), EIGHTS),
    "a sparse input": (nn.Linear(8, 4), EIGHTS.relu().to_sparse()),
    "a packed sequence": (
        Net(unpacked, layer=nn.LSTM(8, 16)),
        pack_padded_sequence(SEQUENCES, LENGTHS),
    ),
}
"""Those that ask for values."""


@pytest.mark.parametrize(("net", "inputs"), ASKING.values(), ids=ASKING)
def test_a_pass_with_values(net: nn.Module, inputs: Any) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.warns(UserWarning, match=r"one real forward pass .* on the CPU") as warned:
        found = counted(net, inputs)
    assert [warning.filename for warning in warned] == [__file__]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert found == really_saved(net, inputs)


class Stateful(nn.Module):
    """Changes all that a forward pass can change."""

    def __init__(self, ask: bool) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 4), nn.BatchNorm1d(4)
        self.embedding = nn.Embedding(3, 4, max_norm=0.1)
        self.register_buffer("mean", torch.zeros(4))
        self.mean: Tensor
        self.table, self.ask, self.calls, self.last = torch.rand(4), ask, 0, None
        self.history: list[Any] = []
        self.cache: dict[str, Any] = {"x": [1]}
        self.lock = threading.Lock()
        self.generator = torch.Generator()
        self.frozen = nn.BatchNorm1d(4).eval()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            self.calls += 1
        self.last = self.linear(x)
        self.history.append(x)
        self.cache["x"].append(x)
        self.table += 1
        self.mean = 0.9 * self.mean + x.mean()
        x.mul_(2)
        y = self.frozen(self.norm(self.linear(x))) + self.embedding(
            torch.zeros(1, dtype=torch.int64)
        )
        if self.ask and y.isnan().any():
            raise ValueError
        noise = torch.rand(4, generator=self.generator) + random.random() + np.random.rand()  # noqa: NPY002
        z: Tensor = F.dropout(y * self.table * noise)
        self.linear.weight.requires_grad_(False)
        return z


@pytest.mark.filterwarnings("ignore:Stateful cannot run on tensors without data")
@pytest.mark.parametrize("ask", [False, True], ids=["without data", "with values"])
@pytest.mark.parametrize("fail", [False, True], ids=["runs", "fails"])
def test_nothing_changes(ask: bool, fail: bool) -> None:
    net, x = Stateful(ask), torch.randn(6, 7 if fail else 8)
    net.linear.weight.grad = torch.ones(4, 8)
    fields: dict[nn.Module, dict[str, Any]] = {m: dict(vars(m)) for m in net.modules()}
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers()), "x": x}
    tensors["table"], tensors["grad"] = net.table, net.linear.weight.grad
    values = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in tensors.items()}
    torch.manual_seed(3)
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state(legacy=False))  # noqa: NPY002
    generated = net.generator.get_state()
    if fail:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            counted(net, x)
    else:
        assert counted(net, x) == counted(net, x)
    for module in net.modules():
        assert list(vars(module)) == list(fields[module])
        assert all(value is fields[module][key] for key, value in vars(module).items())
        assert not module._forward_hooks
    assert (net.history, net.cache, net.frozen.training) == ([], {"x": [1]}, False)
    for name, tensor in {**dict(net.named_parameters()), **dict(net.named_buffers())}.items():
        assert tensor is tensors[name]
    for name, (value, trained) in values.items():
        assert torch.equal(tensors[name], value)
        assert tensors[name].requires_grad == trained
        assert not isinstance(tensors[name], FakeTensor)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert str(np.random.get_state(legacy=False)) == states[2]  # noqa: NPY002
    assert torch.equal(net.generator.get_state(), generated)


def test_layers_that_are_dropped_at_random() -> None:
    """A count is that of one draw, always the same."""

    def use(net: Any, x: Tensor) -> Any:
        for layer in net.children():
            if random.random() < 0.5 and np.random.rand() < 0.9:  # noqa: NPY002
                x = layer(x)
        return x

    net = Net(use, **{f"layer{i}": nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for i in range(20)})
    found = {counted(net, EIGHTS) for _ in range(5)}
    assert len(found) == 1
    assert 0 < found.pop() < 20 * 5 * 16


def test_lazy_modules_stay_lazy() -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(
            nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
        )

    lazy, usual, x = network(), network(), torch.randn(2, 3, 8, 8)
    usual(x)
    usage = training_memory(lazy, (3, 8, 8), 2, EIGHT)
    assert usage == training_memory(usual, (3, 8, 8), 2, EIGHT)
    assert usage.activations == really_saved(usual, x)
    assert isinstance(lazy[4].weight, nn.UninitializedParameter)
    assert isinstance(lazy[1].running_mean, nn.UninitializedBuffer)
    assert lazy(x).shape == (2, 5)


@pytest.mark.filterwarnings("ignore:Net cannot run on tensors without data")
def test_lazy_modules_with_values() -> None:
    lazy = nn.LazyLinear(16)
    net = Net(checked, a=lazy, b=nn.LazyLinear(4))
    usage = training_memory(net, inputs=EIGHTS, precision=EIGHT)
    assert usage.weights == 8 * 16 + 16 + 16 * 4 + 4
    assert isinstance(lazy.weight, nn.UninitializedParameter)
    assert usage.activations == 5 * (8 + 16)
    net(EIGHTS)
    assert usage.activations == really_saved(net, EIGHTS)


def test_networks_without_data() -> None:
    """Seven billion weights, and nothing allocated."""
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(4096, 32, 16384, batch_first=True)
    usage = []
    for layers in (2, 3, 35):
        net = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        usage.append(training_memory(net, (100, 4096), 1, EIGHT))
        assert all(parameter.is_meta for parameter in net.parameters())
    assert usage[2].weights == 35 * sum(p.numel() for p in layer.parameters()) > 7e9
    two, three, all_of_them = (u.activations for u in usage)
    assert all_of_them == two + 33 * (three - two)


def test_networks_without_data_count_as_on_the_cpu() -> None:
    """On the device meta, or made of fake tensors; the kernels are those of the CPU."""
    net, x = attention()
    expected = counted(net, x)
    assert counted(copy.deepcopy(net).to("meta"), x) == expected
    with FakeTensorMode():
        fake, _ = attention()
        assert counted(fake, x) == expected
        assert counted(net, torch.empty(3, 20, 6)) == expected
    assert counted(fake, x) == expected
    assert counted(net, x.to("meta")) == expected


def test_networks_without_data_cannot_tell_values() -> None:
    net = Net(checked, **linears()).to("meta")
    with pytest.raises(
        ValueError, match=r"model must have data, because Net asks for values .* on the CPU"
    ):
        counted(net, EIGHTS)
    with pytest.raises(RuntimeError, match="must have same reduction dim"):
        counted(nn.Linear(8, 4, device="meta"), torch.randn(5, 7))


@pytest.mark.parametrize("ask", [False, True], ids=["without data", "with values"])
def test_sizes_alone_may_be_those_of_words(ask: bool, recwarn: pytest.WarningsRecorder) -> None:
    def use(net: Any, x: Tensor) -> Any:
        return net.b(net.a(x).relu() * (x.max().item() if ask else 2))

    net = Net(use, a=nn.Embedding(30, 16), b=nn.Linear(16, 4))
    assert training_memory(net, (12,), 5, EIGHT).activations == counted(net, TOKENS)
    assert len(recwarn) == (2 if ask else 0)


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor, *, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        y: Tensor = self.linear(x) * scale
        return y if shift is None else y.exp() + shift


class Batch(NamedTuple):
    words: Tensor
    labels: Tensor


@dataclass
class Sample:
    words: Tensor


class Open(nn.Module):
    """Takes a whole batch as its one argument."""

    def __init__(self, look: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.linear, self.look = nn.Linear(8, 4), look

    def forward(self, batch: Any) -> Tensor:
        y: Tensor = self.linear(self.look(batch)).tanh()
        return y


STRUCTURES: dict[str, tuple[nn.Module, Any, int]] = {
    "keywords": (Sum(), {"x": EIGHTS, "scale": torch.rand(4)}, 5 * 8 + 4),
    "more keywords": (
        Sum(),
        {"x": EIGHTS, "scale": torch.rand(4), "shift": torch.rand(4)},
        5 * 8 + 4 + 5 * 4,
    ),
    "a dict": (Open(lambda batch: batch["words"]), {"words": EIGHTS}, 5 * 12),
    "a dict by other keys": (Open(lambda batch: batch[0]), {0: EIGHTS}, 5 * 12),
    "a pair": (Open(lambda batch: batch[0]), (EIGHTS, TOKENS), 5 * 12),
    "a tuple of one": (Open(lambda batch: batch), (EIGHTS,), 5 * 12),
    "a named tuple": (Open(lambda batch: batch.words), Batch(EIGHTS, TOKENS), 5 * 12),
    "a dataclass": (Open(lambda batch: batch.words), Sample(EIGHTS), 5 * 12),
    "a list of dicts": (Open(lambda batch: batch[0]["words"][0]), [{"words": (EIGHTS,)}], 5 * 12),
}


@pytest.mark.parametrize(("net", "inputs", "expected"), STRUCTURES.values(), ids=STRUCTURES)
def test_inputs_of_any_structure(net: nn.Module, inputs: Any, expected: int) -> None:
    assert counted(net, inputs) == expected
    space = ConfigurationSpace({"format_a": ["1-4-3"], "format_b": ["1-6-9"]})
    total = training_memory(net, inputs=inputs, precision=EIGHT).total
    assert memory_vector(space, net, inputs=inputs).tolist() == [total]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_counts_a_training_wherever_it_is_called(context: Callable[[], Any]) -> None:
    net = Net(lambda net, x: net.b(net.a(x).relu()), **linears())
    with context():
        assert counted(net, EIGHTS) == 5 * 24


def test_threads_do_not_meet() -> None:
    net, found = Tables(), []
    threads = [
        threading.Thread(target=lambda: found.append(counted(net, TOKENS))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [counted(net, TOKENS)] * 3


def test_errors_are_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="Output size is too small"):
        counted(nn.AvgPool2d(5), torch.randn(1, 3, 2, 2))
    assert capfd.readouterr() == ("", "")


def images_for(name: str) -> tuple[dict[str, Any], int]:
    """Options and the smallest images, or nearly, of a classifier of torchvision."""
    if name.startswith("vit"):
        size = 28 if name.endswith("14") else 32
        return {"image_size": size}, size
    if name.startswith("maxvit"):
        return {"input_size": (224, 224)}, 224
    if name.startswith(("inception", "googlenet")):
        return {"init_weights": False}, 299 if name.startswith("inception") else 64
    return {}, 32 if name.startswith("vgg") else 64


FAMILIES = """
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3
mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet50 resnext50_32x4d
shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11_bn vit_b_16 wide_resnet50_2
"""
"""One of every family; maxvit takes half a minute, and the larger ones are made of the same."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES.split())
def test_the_classifiers_of_torchvision(name: str) -> None:
    options, size = images_for(name)
    net = torchvision.models.get_model(name, weights=None, num_classes=10, **options)
    found = training_memory(net, (3, size, size), 2, EIGHT).activations
    assert found == really_saved(net, torch.randn(2, 3, size, size))
