from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import cross_entropy, mse_loss, relu
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from optuna_peppp import Precision, Recipe, low_precision, training_step
from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.names import SITES, Sites
from optuna_peppp.lowprecision import quantize

PAPER = Recipe.paper("1-4-3", "1-6-9")
STOCHASTIC = Recipe.hardware("mxfp8-e4m3", states="dynamic8@256", master="bfloat16")


# Networks and losses of people


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x) + x)
        logits: Tensor = self.last(x.mean((2, 3)))
        return logits


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        states = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1)
        logits: Tensor = self.head((states * kept).sum(1) / kept.sum(1))
        return logits


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.head(self.lstm(x)[0][:, -1])
        return last


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.up, self.out = nn.Upsample(scale_factor=2), nn.Conv2d(8, 1, 1)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        across = self.relu(self.down(x))
        below = self.up(self.relu(self.bottom(self.pool(across))))
        output: Tensor = self.out(torch.cat((across, below), 1))
        return output


class Denoiser(nn.Module):
    """Predicts the noise of x at time t."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.body = nn.Linear(1, 8), nn.Linear(2, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        noise: Tensor = self.out(torch.tanh(self.body(x) + self.time(t[:, None])))
        return noise


@dataclass
class Output:
    loss: Tensor
    logits: Tensor


class Pretrained(nn.Module):
    """Named inputs, labels among them, and an output that holds its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.pooler = nn.Embedding(11, 6), nn.Linear(6, 6)
        self.classifier = nn.Linear(6, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Output:
        mask = attention_mask.unsqueeze(-1).float()
        pooled = (self.embedding(input_ids) * mask).sum(1) / mask.sum(1)
        logits = self.classifier(pooled)
        return Output(cross_entropy(logits, labels), logits)


def own_loss(output: Output) -> Tensor:
    return output.loss


def mean_square(output: Tensor, target: Tensor) -> Tensor:
    return mse_loss(output, target)


Case = tuple[Callable[[], nn.Module], Callable[..., Tensor], Callable[[], tuple[Any, ...]]]


def images(*shape: int) -> Tensor:
    return torch.randn(6, *shape)


CASES: dict[str, Case] = {
    "residual": (
        Residual,
        cross_entropy,
        lambda: (images(3, 6, 6), torch.randint(3, (6,))),
    ),
    "text": (
        Text,
        cross_entropy,
        lambda: (
            (torch.randint(11, (6, 5)), torch.arange(5) >= torch.randint(2, 6, (6, 1))),
            torch.randint(3, (6,)),
        ),
    ),
    "recurrent": (Recurrent, mean_square, lambda: (images(4, 3), images(1))),
    "unet": (UNet, mean_square, lambda: (images(1, 8, 8), images(1, 8, 8))),
    "denoiser": (Denoiser, mean_square, lambda: ((images(2), torch.rand(6)), images(2))),
    "pretrained": (
        Pretrained,
        own_loss,
        lambda: (
            {
                "input_ids": torch.randint(11, (6, 5)),
                "attention_mask": (torch.arange(5) < torch.randint(1, 6, (6, 1))).long(),
                "labels": torch.randint(3, (6,)),
            },
        ),
    ),
}


def optimizer_of(model: nn.Module, name: str) -> Optimizer:
    if name == "text":  # No decay on vectors, as everybody does.
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}]
        return AdamW([*groups, {"params": vectors, "weight_decay": 0.0}], lr=2**-7)
    # A power of two: torch's own update multiplies and adds with a single rounding.
    return SGD(model.parameters(), lr=2**-6, momentum=0.5)


def run(name: str, recipe: Recipe, backend: Any, steps: int = 6) -> tuple[list[float], Tensor]:
    """Losses, and all parameters at the end."""
    build, loss, batch = CASES[name]
    torch.manual_seed(0)
    model = build()
    optimizer = optimizer_of(model, name)
    max_norm = 0.5 if name == "residual" else None
    step = training_step(model, optimizer, loss, recipe, seed=0, max_norm=max_norm, backend=backend)
    torch.manual_seed(1)
    losses = [float(step(*batch())) for _ in range(steps)]
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


# The whole step as one graph


@pytest.mark.parametrize("name", sorted(set(CASES) - {"recurrent"}))
def test_the_graph_of_any_network_and_loss_is_the_eager_step(
    traced: CompileCounterWithBackend, name: str
) -> None:
    compiled, eager = run(name, PAPER, "compiled"), run(name, PAPER, "eager")
    assert traced.frame_count == 1
    tolerance = 1e-5 if name == "text" else 0.0  # AdamW in its functional form
    assert compiled[0] == pytest.approx(eager[0], rel=tolerance, abs=0)
    assert float((compiled[1] - eager[1]).norm()) <= 2e-3 * tolerance / 1e-5


def test_what_cannot_be_compiled_is_trained_eagerly_with_one_warning() -> None:
    """PyTorch's compiler takes no recurrent modules."""
    with pytest.warns(UserWarning, match="cannot compile this training step") as told:
        compiled = run("recurrent", PAPER, "compiled")
    assert len(told) == 1
    eager = run("recurrent", PAPER, "eager")
    assert compiled[0] == eager[0]
    assert torch.equal(compiled[1], eager[1])


def test_recipes_of_one_structure_share_a_graph(traced: CompileCounterWithBackend) -> None:
    found = [run("denoiser", Recipe.paper(f"1-4-{m}", "1-6-9"), "compiled")[0] for m in (1, 2, 3)]
    assert found[0] != found[1] != found[2]
    assert traced.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "recipe"), [("residual", PAPER), ("pretrained", STOCHASTIC)])
def test_compiled_by_inductor_it_is_the_eager_step(name: str, recipe: Recipe) -> None:
    compiled, eager = run(name, recipe, "compiled"), run(name, recipe, "eager")
    assert compiled[0] == pytest.approx(eager[0], rel=1e-3)
    assert float((compiled[1] - eager[1]).norm() / eager[1].norm()) < 1e-2


def test_a_schedule_and_clipping_are_heeded(traced: CompileCounterWithBackend) -> None:
    def weights(backend: Any) -> Tensor:
        build, loss, batch = CASES["residual"]
        torch.manual_seed(0)
        model = build()
        sgd = SGD(model.parameters(), lr=0.01, momentum=0.9)
        step = training_step(model, sgd, loss, PAPER, max_norm=0.1, backend=backend)
        scheduler = OneCycleLR(step.optimizer, max_lr=0.5, total_steps=8)
        for _ in range(8):
            step(*batch())
            scheduler.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(3)
    compiled = weights("compiled")
    torch.manual_seed(3)
    torch.testing.assert_close(compiled, weights("eager"), rtol=1e-5, atol=1e-6)
    assert traced.frame_count == 1


def test_clipping_is_that_of_torch() -> None:
    build, loss, batch = CASES["residual"]
    torch.manual_seed(0)
    model = build()
    theirs = copy.deepcopy(model)
    inputs, targets = batch()
    step = training_step(model, SGD(model.parameters(), lr=1.0), loss, PAPER, max_norm=0.01)
    step(inputs, targets)
    network, sgd = low_precision(theirs, SGD(theirs.parameters(), lr=1.0), PAPER)
    sgd.scale(loss(network(inputs), targets)).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.01)
    sgd.step()
    for one, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_freezing_and_modes_are_heeded(traced: CompileCounterWithBackend) -> None:
    def run(backend: Any) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        step = training_step(
            model, SGD(model.parameters(), lr=2**-4), cross_entropy, PAPER, backend=backend
        )
        batches = [(torch.randn(5, 3), torch.randint(2, (5,))) for _ in range(9)]
        for count, (x, y) in enumerate(batches):
            if count == 3:
                model[1].eval()
                model[0].requires_grad_(False)
            if count == 6:
                model[0].requires_grad_(True)
            step(x, y)
        return [value.clone() for value in model.state_dict().values()]

    for one, other in zip(run("compiled"), run("eager"), strict=True):
        assert torch.equal(one, other)
    assert traced.frame_count == 3


def test_other_shapes_are_trained_eagerly(traced: CompileCounterWithBackend) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    step = training_step(model, SGD(model.parameters(), lr=0.1), cross_entropy, PAPER)
    for size in (4, 4, 3, 4, 2):
        assert math.isfinite(float(step(torch.randn(size, 3), torch.randint(2, (size,)))))
    assert traced.frame_count == 1


def test_a_loss_that_is_no_number_is_refused() -> None:
    model = nn.Linear(3, 2)
    step = training_step(model, SGD(model.parameters(), lr=0.1), lambda output: output, PAPER)
    with pytest.raises(
        ValueError, match=r"one number, a tensor; got shape \(4, 2\): take its mean"
    ):
        step(torch.randn(4, 3))


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan])
def test_norms_are_positive(norm: float) -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="max_norm must be positive"):
        training_step(model, SGD(model.parameters()), cross_entropy, PAPER, max_norm=norm)


# A loop of one's own


def loop(
    recipe: Any, steps: int, *, stop: int | None = None, seed: int | None = 0
) -> tuple[nn.Module, dict[str, Any] | None]:
    """Steps of a small training; the state after ``stop`` of them, where that is asked for."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    network, optimizer = low_precision(model, AdamW(model.parameters(), lr=0.01), recipe, seed=seed)
    state = None
    for count in range(steps):
        if count == stop:
            state = copy.deepcopy(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            )
        _one(network, optimizer, count)
    return model, state


def _one(network: nn.Module, optimizer: Any, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    x, y = torch.randn(4, 3, generator=generator), torch.randint(2, (4,), generator=generator)
    optimizer.zero_grad()
    optimizer.scale(cross_entropy(network(x), y)).backward()
    optimizer.step()


@pytest.mark.parametrize("recipe", ["mxfp8", Precision.parse("1-4-3", "1-6-9"), STOCHASTIC])
def test_recipes_by_name_formats_and_record(recipe: Any) -> None:
    model, _ = loop(recipe, 3)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    again, _ = loop(recipe, 3)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_misspelt_recipe_is_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="mxfp8"):
        low_precision(model, SGD(model.parameters()), "mxpf8")
    with pytest.raises(ValueError, match="recipe must be a Recipe, the name of one"):
        low_precision(model, SGD(model.parameters()), 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "recipe",
    [
        STOCHASTIC,
        Recipe(dict(PAPER), loss_scale=DynamicLossScale(start=2.0**60, interval=3)),
    ],
)
def test_a_resumed_loop_ends_as_an_uninterrupted_one(recipe: Recipe) -> None:
    whole, state = loop(recipe, 12, stop=7)
    assert state is not None
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    network, optimizer = low_precision(model, AdamW(model.parameters(), lr=0.5), recipe, seed=9)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for count in range(7, 12):
        _one(network, optimizer, count)
    for one, other in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_state_of_the_plain_optimizer_is_taken_over() -> None:
    model = nn.Linear(3, 2)
    plain = AdamW(model.parameters(), lr=0.25)
    model(torch.ones(1, 3)).sum().backward()
    plain.step()
    _, optimizer = low_precision(model, AdamW(model.parameters()), STOCHASTIC, seed=0)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_averages_accumulation_and_several_losses_work_as_with_torch() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    network, optimizer = low_precision(model, SGD(model.parameters(), lr=0.1), PAPER)
    assert isinstance(optimizer, Optimizer)
    ema: Any = get_ema_multi_avg_fn(0.5)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=ema)
    x, y = torch.randn(4, 3), torch.randint(2, (4,))
    halves = [cross_entropy(network(x[i : i + 2]), y[i : i + 2]) / 2 for i in (0, 2)]
    for half in halves:
        optimizer.scale(half).backward()  # type: ignore[no-untyped-call]
    in_parts = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    optimizer.zero_grad()
    optimizer.scale(sum(halves_again(network, x, y), torch.zeros(()))).backward()  # type: ignore[no-untyped-call]
    together = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(in_parts, together, strict=True):
        torch.testing.assert_close(one, other)
    before = model.weight.detach().clone()
    average.update_parameters(model)
    optimizer.step()
    average.update_parameters(model)
    torch.testing.assert_close(average.module.weight, (before + model.weight.detach()) / 2)


def halves_again(network: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    return [cross_entropy(network(x[i : i + 2]), y[i : i + 2]) / 2 for i in (0, 2)]


# Checkpoints and several dtypes in one network


class Checkpointed(nn.Module):
    """A residual block that is computed again in the backward pass, or is not."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.block = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 8))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.first(x))
        if self.reentrant is None:
            return cast(Tensor, self.head(self._residual(h)))
        return cast(Tensor, self.head(checkpoint(self._residual, h, use_reentrant=self.reentrant)))

    def _residual(self, h: Tensor) -> Tensor:
        return h + cast(Tensor, self.block(h))


def trained(model: nn.Module, recipe: Recipe, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Logits of three steps, and the parameters after them."""
    torch.manual_seed(1)
    sgd = SGD(model.parameters(), lr=0.1, momentum=0.9)
    network, optimizer = low_precision(model, sgd, recipe, seed=0)
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        logits = network(*inputs)
        optimizer.scale(cross_entropy(logits, torch.tensor([0, 1, 2, 0]))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(logits.detach())
    return [*found, *(p.detach() for p in model.parameters())]


@pytest.mark.parametrize("recipe", [PAPER, STOCHASTIC])
@pytest.mark.parametrize("sites", SITES)
def test_checkpoints_train_as_without(recipe: Recipe, sites: Sites) -> None:
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for reentrant in (None, True, False):
        torch.manual_seed(0)
        results.append(trained(Checkpointed(reentrant), replace(recipe, sites=sites), (x,)))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


class Mixed(nn.Module):
    """Tokens and whole weights go in; one part computes in another dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding, self.norm, self.head = nn.Embedding(9, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.part = nn.Linear(8, 8, dtype=dtype)

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        h = self.part(self.embedding(tokens).to(self.part.weight.dtype))
        h = (relu(h) + 1).float() * weights.float()[..., None]
        return cast(Tensor, self.head(self.norm(h).mean(1)))


TOKENS = torch.arange(20).reshape(4, 5) % 9, torch.arange(20).reshape(4, 5) % 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_mixed_dtypes_train_as_in_torch_where_nothing_is_rounded(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, plain = (Mixed(dtype) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    found = trained(model, Recipe({}, sites="operators"), TOKENS)
    sgd = SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for logits in found[:3]:
        assert torch.equal(plain(*TOKENS), logits)
        sgd.zero_grad()
        cross_entropy(plain(*TOKENS), torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]
        sgd.step()
    assert all(map(torch.equal, plain.parameters(), model.parameters()))


@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_dtype_is_rounded_and_stays(dtype: torch.dtype, sites: Sites) -> None:
    torch.manual_seed(0)
    model, outputs = Mixed(dtype), list[Tensor]()
    model.norm.register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0]))
    before = [p.detach().clone() for p in model.parameters()]
    found = trained(model, replace(PAPER, sites=sites), TOKENS)
    for old, new in zip(before, found[3:], strict=True):
        assert new.dtype == old.dtype
        assert torch.isfinite(new).all()
        assert not torch.equal(new, old)
        # What the optimizer updates is in Format B.
        torch.testing.assert_close(new.float(), quantize(new.float(), "1-6-9"), rtol=0, atol=0)
    fits = torch.equal(outputs[-1], quantize(outputs[-1], "1-4-3"))
    assert fits == (sites == "operators")
