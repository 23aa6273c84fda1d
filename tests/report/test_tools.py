from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.report.tools import TOOLS, code

ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "momentum": 0.9}


@pytest.mark.parametrize(
    ("states", "master", "expected"),
    [
        ("dynamic8@256", "bfloat16", "AdamW8bit"),
        ("dynamic4@128", "float32", "AdamW4bit"),
        ("float8-e4m3@256", "bfloat16", "AdamWFp8"),
        ("float32", "float32", "AdamW"),
    ],
)
def test_torchaos_optimizers_run(states: str, master: str, expected: str) -> None:
    pytest.importorskip("torchao")
    torch.manual_seed(0)
    model = nn.Linear(128, 64)
    before = model.weight.detach().clone()
    names: dict[str, Any] = {"model": model}
    # torchao compiles its update, which an eager one equals.
    with torch.compiler.set_stance("force_eager"):
        exec(code("torchao", Recipe.hardware(states=states, master=master), ADAMW), names)
        optimizer = names["optimizer"]
        assert type(optimizer).__name__ == expected
        assert optimizer.defaults["weight_decay"] == 0.1
        model(torch.randn(8, 128, dtype=model.weight.dtype)).square().sum().backward()
        optimizer.step()
    assert model.weight.dtype == (torch.bfloat16 if master == "bfloat16" else torch.float32)
    moved = float((model.weight.detach().float() - before).abs().max())
    assert moved == pytest.approx(0.01, rel=0.5)


def test_what_a_tool_lacks_is_said() -> None:
    recipe = Recipe.hardware("nvfp4", states="dynamic4@128", master="float24")
    assert code("bitsandbytes", recipe, ADAMW).splitlines() == [
        "# activations nvfp4, states dynamic4@128, master float24",
        "import torch",
        "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)",
        "# bitsandbytes has no states in dynamic4@128: left out",
        "# bitsandbytes has no activations in nvfp4: left out",
        "# bitsandbytes has no master weights in float24: left out",
    ]
    engine = code("transformer-engine", recipe, ADAMW)
    assert "scaling = recipe.NVFP4BlockScaling()" in engine
    assert "# transformer-engine has no states in dynamic4@128: left out" in engine


def test_kept_activations_are_ours() -> None:
    lines = code("torchao", Recipe.hardware("int2@256/minmax"), ADAMW | {"optimizer": "sgd"})
    assert 'packed_saved_tensors(Recipe.hardware("int2@256/minmax"))' in lines
    assert "optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9" in lines


@pytest.mark.parametrize("tool", TOOLS)
def test_every_configuration_of_hardware_has_lines(tool: Any) -> None:
    space = ConfigurationSpace.hardware()
    for index in range(len(space)):
        for optimizer in ("sgd", "adam", "adamw"):
            lines = code(tool, space.recipe(index), ADAMW | {"optimizer": optimizer})
            compile(lines, tool, "exec")
            assert "optimizer = " in lines


def test_formats_that_no_hardware_has_are_refused() -> None:
    with pytest.raises(ValueError, match="tune --space hardware"):
        code("torchao", Recipe.paper("1-4-3", "1-6-9"), ADAMW)
    with pytest.raises(ValueError, match=r"assignments to a FILE\.json"):
        code("torchao", Recipe.assigned("mxfp4", "mxfp8-e4m3"), ADAMW)
    with pytest.raises(ValueError, match="tool must be"):
        code("apex", Recipe.hardware(), ADAMW)  # type: ignore[arg-type]
