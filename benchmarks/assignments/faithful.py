"""Trainings with the settings of the second paper's released code: for a GPU, or a little of them.

Lee et al. (TMLR 2023): 1-4-3b4 (shift 4) for demoted weights and activations, 1-5-2 for their
gradients, 1-6-9 for all else, rounded to nearest; input and logits go with their groups; weight
gradients are rounded with the loss scale on them, a dynamic one that doubles after an epoch without
overflow; step size 0.1, cosine, 200 epochs of 128 images. Measured are float32, the higher format,
the lower one, HFP8's operators, and shares of demotion with promotion at 1% and without.

Other than there: images are not cropped or flipped, loss and log-probabilities stay float32, and
weights are rounded in tests, too.

    python -m benchmarks.assignments.faithful [--data cifar100] [--network resnet18] [--epochs 200]
        [--device cuda] [--quick]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row
from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import build_model, load_dataset, train, training_memory

LOW: Final = parse_format("1-4-3b4")
LOW_GRADIENT: Final = parse_format("1-5-2")
HIGH: Final = parse_format("1-6-9")
BATCH_SIZE: Final = 128
SHARES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)


def recipe(rule: Rule, steps: int) -> Recipe:
    """The recipe of a rule.

    Args:
        rule: Which tensors are low.
        steps: Of an epoch.
    """
    return Recipe(
        {
            "weights": LOW,
            "activations": LOW,
            "activation_gradients": LOW_GRADIENT,
            "weight_gradients": HIGH,
        },
        loss_scale=DynamicLossScale(interval=steps),
        scaled_gradients=True,
        rule=rule,
    )


def rules(shares: Sequence[float] = SHARES) -> Iterator[tuple[str, Rule | None]]:
    """Names and rules; None is float32."""
    yield "float32", None
    yield "high", Rule(HIGH, 0.0, ends=True)
    yield "operators", Rule(HIGH, order="operator", ends=True)
    yield "low", Rule(HIGH, 1.0, ends=True)
    for promotion in (0.01, None):
        for share in (*shares, *((1.0,) if promotion else ())):
            name = f"{share:g}{' promoted' if promotion else ''}"
            yield name, Rule(HIGH, share, promotion=promotion, ends=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, one row a rule."""
    parser = script.parser(__doc__, "one epoch of digits with plain3, three rules")
    parser.add_argument("--data", default="cifar100")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if options.quick:
        options.data, options.network, options.image_size = "digits", "plain3", 8
    epochs = 1 if options.quick else options.epochs
    results = Results(script.folder(options), "assignments_faithful")
    data = load_dataset(options.data, image_size=options.image_size)
    steps = -(-len(data.train_images) // BATCH_SIZE)
    rows: list[Row] = [dict(row) for row in results.read()]
    done = {row["rule"] for row in rows}
    chosen = [*rules()][:3] if options.quick else rules()
    for name, rule in chosen:
        if name in done:
            continue
        torch.manual_seed(0)
        model = build_model(options.network, data.num_classes, data.input_shape)
        of_rule = Recipe({}) if rule is None else recipe(rule, steps)
        memory = training_memory(model, data.input_shape, BATCH_SIZE, of_rule, "assignment")
        result = train(
            model,
            data,
            of_rule,
            learning_rate=0.1,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            schedule="cosine",
            device=options.device,
        )
        ratio = "" if result.low_ratio is None else f"{result.low_ratio:.4f}"
        row: Row = {"rule": name, "bytes": memory.total, "low": ratio}
        counted = {"promoted": len(result.promoted), "diverged": int(result.diverged)}
        rows.append({**row, **counted, "error": f"{result.error:.4f}"})
        results.table(rows)
        print(*rows[-1].values(), flush=True)
    settings = {"network": options.network, "epochs": epochs, "batch_size": BATCH_SIZE, "seed": 0}
    results.record({"data": data.name, "input": list(data.input_shape), **settings})


if __name__ == "__main__":
    main()
