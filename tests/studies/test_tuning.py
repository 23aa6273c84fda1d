from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.lowprecision import Experiment, TrainingResult
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.baseline import Baseline
from optuna_peppp.studies.life import SIGN, fail
from optuna_peppp.studies.patience import Pace, StorageError
from optuna_peppp.studies.storage import open_storage
from optuna_peppp.studies.trials import INTERRUPTED
from optuna_peppp.studies.tuning import TrainingsFailed, Tuning
from optuna_peppp.studies.turns import FAILURE

SPACE = ConfigurationSpace(
    {"format_a": ["1-4-3", "1-5-3", "1-5-4"], "format_b": ["1-6-7", "1-6-9", "1-8-11"]}
)
EXPERIMENT = Experiment("npz:tiny.npz", "plain3", epochs=2)
ERRORS = np.random.default_rng(0).uniform(0.1, 0.9, (4, len(SPACE)))
FLOAT32 = -1
QUICK = Pace(patience=0.0, sign_every=0.1, dead_after=0.6, poll=0.05)
COMPLETE, RUNNING, FAIL = TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL


def write_corpus(
    path: Path, errors: NDArray[np.float64] = ERRORS, last: str | None = "1-8-11"
) -> None:
    """Past tasks; ``last`` is the last choice of Format B, or None for one choice less."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", *SPACE.names, "error", "memory"])
        for task, row in enumerate(errors):
            for index, error in enumerate(row):
                format_a, format_b = SPACE.params(index).values()
                if format_b != "1-8-11" or last is not None:
                    chosen = last if format_b == "1-8-11" else format_b
                    writer.writerow([f"task{task}", format_a, chosen, error, index + 1])


class Trainings:
    """Stands in for trainings; what a test does in them."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.baselines = 0
        self.act: Callable[[int], object] = lambda index: None

    def measure(
        self, _: Experiment, params: dict[str, object], on_epoch: Callable[[int], None]
    ) -> TrainingResult:
        if params == {"format_a": "1-8-23", "format_b": "1-8-23"}:
            self.act(FLOAT32)
            self.baselines += 1
            on_epoch(1)
            return TrainingResult(0.05, (0.05,), False, 2)
        index = SPACE.index(params)
        self.made.append(index)
        self.act(index)
        for epoch in (1, 2):
            on_epoch(epoch)
        return TrainingResult(index / 10, (index / 10,), index == 3, 2)


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = Trainings()
    monkeypatch.setattr(Experiment, "measure", lambda self, *told: made.measure(self, *told))
    monkeypatch.setattr(
        Experiment, "memory", lambda self, space: np.arange(1, len(space) + 1) * 1e6
    )
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.csv"
    write_corpus(path)
    return path


@pytest.fixture(params=["sqlite:///{}/tune.db", "{}/tune.journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param.format(tmp_path))


@pytest.fixture
def start(corpus: Path, tmp_path: Path) -> Callable[..., Tuning]:
    def starting(storage: str = f"{tmp_path}/tune.journal", **options: Any) -> Tuning:
        named = {"corpus": str(corpus), "rank": 1} if "meta" not in options else {}
        return Tuning.start(EXPERIMENT, storage=storage, **{**named, "pace": QUICK, **options})

    return starting


def run(tuning: Tuning, trials: int, **options: Any) -> None:
    tuning.run(EXPERIMENT, trials, **{"strategy": "random-mf", "seed": 0, **options})


def trials_of(storage: str) -> list[FrozenTrial]:
    return optuna.load_study(storage=open_storage(storage), study_name="tune").trials


def states(storage: str) -> list[TrialState]:
    return [trial.state for trial in trials_of(storage)]


def test_a_trial_is_told_whole(storage: str, start: Callable[..., Tuning]) -> None:
    run(start(storage), 9)
    trials = trials_of(storage)
    assert len(trials) == 9
    for trial in trials:
        index = SPACE.index(trial.params)
        assert trial.state == COMPLETE
        assert trial.values == [index / 10, (index + 1) * 1e6]
        assert trial.user_attrs == {"diverged": index == 3}


@pytest.mark.parametrize("wanted", [1, 5, 6])
def test_workers_together_make_what_is_wanted_and_no_more(
    storage: str, start: Callable[..., Tuning], trainings: Trainings, wanted: int
) -> None:
    together = threading.Barrier(3)
    trainings.act = lambda _: time.sleep(0.2)

    def work() -> int:
        tuning = start(storage, pace=Pace(poll=0.05))
        together.wait()
        run(tuning, wanted)
        # Whoever ends recommends, and everything is there.
        return len(tuning.study.get_trials(states=(COMPLETE,)))

    start(storage)
    with ThreadPoolExecutor(3) as pool:
        counts = [made.result() for made in [pool.submit(work) for _ in range(3)]]
    assert counts == [wanted] * 3
    assert len(trainings.made) == len(set(trainings.made)) == wanted
    assert states(storage).count(RUNNING) == 0


def test_every_configuration_is_measured_once_at_most(
    storage: str, start: Callable[..., Tuning], trainings: Trainings
) -> None:
    run(start(storage), 99, measurement_cap="4MB")
    assert sorted(trainings.made) == [0, 1, 2, 3]
    run(start(storage), 6)
    assert len(set(trainings.made)) == 6
    run(start(storage), 99)
    assert sorted(trainings.made) == list(range(9))
    run(start(storage), 99)
    assert states(storage) == [COMPLETE] * 9


def test_the_dead_are_waited_for_and_succeeded(
    storage: str,
    start: Callable[..., Tuning],
    trainings: Trainings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start(storage).study.ask()  # killed
    run(start(storage, pace=Pace(poll=0.05, dead_after=4)), 3)
    assert states(storage) == [FAIL, COMPLETE, COMPLETE, COMPLETE]
    assert len(trainings.made) == 3
    assert "Waiting for 1 of other workers" in capsys.readouterr().err


def test_the_living_are_waited_for(
    storage: str, start: Callable[..., Tuning], trainings: Trainings
) -> None:
    other = start(storage).study
    trial = other.ask()
    SPACE.suggest(trial)

    def live() -> None:
        for sign in range(1, 8):  # longer than the dead are waited for
            other._storage.set_trial_system_attr(trial._trial_id, SIGN, sign)
            time.sleep(0.2)
        other.tell(trial, [0.5, 1.0])

    living = threading.Thread(target=live)
    living.start()
    run(start(storage), 2)
    assert states(storage) == [COMPLETE, COMPLETE]
    living.join()
    assert len(trainings.made) == 1


def test_a_training_shows_that_it_lives(
    storage: str, start: Callable[..., Tuning], trainings: Trainings
) -> None:
    signs: set[object] = set()

    def watch(_: int) -> None:
        deadline = time.monotonic() + 30
        while len(signs) < 3:
            assert time.monotonic() < deadline
            signs.add(trials_of(storage)[-1].system_attrs.get(SIGN))
            time.sleep(0.05)

    trainings.act = watch
    run(start(storage), 1)
    assert len(signs) == 3


def test_a_result_of_who_was_taken_for_dead_is_dropped(
    storage: str,
    start: Callable[..., Tuning],
    trainings: Trainings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def succeed_once(_: int) -> None:
        trainings.act = lambda index: None
        (running,) = [trial for trial in trials_of(storage) if trial.state == RUNNING]
        fail(open_storage(storage), running._trial_id)

    trainings.act = succeed_once
    run(start(storage), 2)
    assert states(storage) == [FAIL, COMPLETE, COMPLETE]
    assert "does not count: another worker took this one for dead" in capsys.readouterr().err


def test_a_training_that_fails_is_recorded_and_others_go_on(
    storage: str,
    start: Callable[..., Tuning],
    trainings: Trainings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_out(_: int) -> None:
        if len(trainings.made) in (2, 3):
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")

    trainings.act = run_out
    run(start(storage), 3)
    trials = trials_of(storage)
    assert [trial.state for trial in trials] == [COMPLETE, FAIL, FAIL, COMPLETE, COMPLETE]
    assert trials[1].user_attrs == {FAILURE: "RuntimeError: CUDA out of memory."}
    assert INTERRUPTED not in trials[1].system_attrs
    assert "failed: RuntimeError: CUDA out of memory." in capsys.readouterr().err


@pytest.mark.parametrize("problem", [RuntimeError("broken"), MemoryError()])
def test_three_failures_in_a_row_end_the_run(
    storage: str, start: Callable[..., Tuning], trainings: Trainings, problem: Exception
) -> None:
    def break_down(_: int) -> None:
        if len(trainings.made) > 1:
            raise problem

    trainings.act = break_down
    with pytest.raises(TrainingsFailed, match=type(problem).__name__):
        run(start(storage), 6)
    assert states(storage) == [COMPLETE, FAIL, FAIL, FAIL]


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ValueError("batch"), OSError("gone")])
def test_what_ends_a_run_leaves_nothing_running(
    storage: str, start: Callable[..., Tuning], trainings: Trainings, problem: BaseException
) -> None:
    def interrupt(_: int) -> None:
        if len(trainings.made) == 2:
            raise problem

    trainings.act = interrupt
    with pytest.raises(type(problem)):
        run(start(storage), 4)
    assert states(storage) == [COMPLETE, FAIL]
    assert trials_of(storage)[1].system_attrs[INTERRUPTED] is True
    run(start(storage), 4)
    assert states(storage) == [COMPLETE, FAIL, COMPLETE, COMPLETE, COMPLETE]


def test_the_baseline_is_measured_once(
    storage: str, start: Callable[..., Tuning], trainings: Trainings
) -> None:
    run(start(storage), 1)
    assert (start(storage).baseline, trainings.baselines) == (None, 0)
    for wanted in (1, 2):
        run(start(storage), wanted, baseline=True)
        assert Tuning.load(storage).baseline == Baseline(0.05, 1e6)
    assert trainings.baselines == 1
    assert states(storage) == [COMPLETE, COMPLETE]


def test_a_baseline_that_fails_costs_nothing_else(
    storage: str, start: Callable[..., Tuning], trainings: Trainings
) -> None:
    def run_out(index: int) -> None:
        if index == FLOAT32:
            raise RuntimeError("CUDA out of memory.")

    trainings.act = run_out
    tuning = start(storage)
    with pytest.warns(UserWarning, match="in float32 failed: RuntimeError: CUDA out of memory"):
        run(tuning, 1, baseline=True)
    assert tuning.baseline is None
    assert states(storage) == [COMPLETE]


@pytest.mark.parametrize(
    "stored",
    [
        *("text", {}, {"error": 0.5}, {"error": "a", "memory": 1.0}),
        *({"error": error, "memory": 1.0} for error in (-0.1, 1.1, float("nan"))),
        *({"error": 0.5, "memory": memory} for memory in (0, -1, float("inf"))),
    ],
)
def test_a_baseline_that_others_wrote_is_none(start: Callable[..., Tuning], stored: object) -> None:
    tuning = start()
    tuning.study.set_user_attr("optuna_peppp_baseline", stored)
    assert tuning.baseline is None


def locked(*_: object, **__: object) -> None:
    raise OperationalError("UPDATE", {}, Exception("database is locked"))


@pytest.mark.parametrize(
    "method", ["set_trial_state_values", "set_trial_user_attr", "get_all_trials", "get_trial"]
)
def test_a_storage_that_fails_loses_no_training(
    storage: str,
    start: Callable[..., Tuning],
    trainings: Trainings,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuning = start(storage, pace=Pace(poll=0.05, sleep=lambda _: None))
    inner = vars(tuning.study._storage)["inner"]
    real, failures = getattr(inner, method), iter(range(3))

    def failing(*arguments: Any, **named: Any) -> Any:
        if trainings.made:
            for _ in failures:
                locked()
        return real(*arguments, **named)

    monkeypatch.setattr(inner, method, failing)
    run(tuning, 2)
    assert len(trainings.made) == 2
    assert states(storage) == [COMPLETE, COMPLETE]
    assert next(failures, None) is None


def test_a_storage_that_fails_for_long_is_one_sentence(
    storage: str, start: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = start(storage)
    monkeypatch.setattr(vars(tuning.study._storage)["inner"], "set_trial_state_values", locked)
    with pytest.raises(StorageError, match=rf"^storage {storage} failed \(database is locked\)"):
        run(tuning, 1)


def test_a_study_in_memory(corpus: Path) -> None:
    tuning = Tuning.start(EXPERIMENT, corpus=str(corpus), rank=1)
    run(tuning, 2)
    assert tuning.predict().measured.sum() == 2


def stored(path: Path) -> dict[str, Any]:
    study = optuna.load_study(storage=open_storage(f"{path}/tune.journal"), study_name="tune")
    attribute: dict[str, Any] = study.user_attrs["optuna_peppp"]
    return attribute


def store(path: Path, attribute: object) -> None:
    study = optuna.load_study(storage=open_storage(f"{path}/tune.journal"), study_name="tune")
    study.set_user_attr("optuna_peppp", attribute)


Use = Callable[[Callable[..., Tuning], str], Tuning]
USES = pytest.mark.parametrize(
    "use", [lambda start, storage: start(storage), lambda _, storage: Tuning.load(storage)]
)


@pytest.mark.parametrize(
    ("last", "difference"),
    [
        ("1-8-12", "format_b lacks 1-8-11 and has 1-8-12"),
        (None, "format_b lacks 1-8-11"),
    ],
)
@USES
def test_other_choices_are_refused(
    start: Callable[..., Tuning],
    corpus: Path,
    tmp_path: Path,
    use: Use,
    last: str | None,
    difference: str,
) -> None:
    run(start(), 1)
    before = stored(tmp_path)
    write_corpus(corpus, last=last)
    with pytest.raises(ValueError, match=rf"tuned over other configurations.*: {difference}\."):
        use(start, f"{tmp_path}/tune.journal")
    assert stored(tmp_path) == before


@pytest.mark.parametrize(
    ("choices", "difference"),
    [
        (
            [[name, list(values)[::-1]] for name, values in SPACE.choices.items()],
            "the choices of format_a stand in another order",
        ),
        (
            [[name, list(values)] for name, values in SPACE.choices.items()][::-1],
            "it tuned format_b, format_a, not format_a, format_b",
        ),
    ],
)
@USES
def test_another_order_is_refused(
    start: Callable[..., Tuning], tmp_path: Path, use: Use, choices: list[Any], difference: str
) -> None:
    start()
    store(tmp_path, stored(tmp_path) | {"choices": choices})
    with pytest.raises(ValueError, match=rf"tuned over other configurations.*: {difference}\."):
        use(start, f"{tmp_path}/tune.journal")


@USES
def test_other_errors_are_told(
    start: Callable[..., Tuning], corpus: Path, tmp_path: Path, use: Use
) -> None:
    run(start(), 1)
    write_corpus(corpus, 1 - ERRORS)
    with pytest.warns(UserWarning, match=rf"{corpus} holds other measurements than when study"):
        tuning = use(start, f"{tmp_path}/tune.journal")
    assert tuning.predict().measured.sum() == 1


@USES
def test_the_same_in_other_words_is_the_same(
    start: Callable[..., Tuning], corpus: Path, tmp_path: Path, use: Use
) -> None:
    run(start(), 1)
    rows = list(csv.reader(corpus.read_text().splitlines()))
    with corpus.open("w", newline="") as file:
        csv.writer(file).writerows(
            [*row, ["seen", "1"][number > 0]] for number, row in enumerate(rows)
        )
    use(start, f"{tmp_path}/tune.journal")


@pytest.mark.parametrize("change", ["choices", "errors", "nothing", "gone", "garbage"])
def test_a_meta_model_that_was_written_again(
    start: Callable[..., Tuning], corpus: Path, tmp_path: Path, change: str
) -> None:
    def save(path: Path) -> None:
        MetaModel.fit(ErrorMatrix.read_csv(path), rank=1).save(tmp_path / "meta.npz")

    save(corpus)
    meta = str(tmp_path / "meta.npz")
    run(start(meta=meta), 1)
    write_corpus(
        corpus,
        1 - ERRORS if change == "errors" else ERRORS,
        "1-8-12" if change == "choices" else "1-8-11",
    )
    save(corpus)
    storage = f"{tmp_path}/tune.journal"
    if change == "nothing":
        Tuning.load(storage)
    elif change == "errors":
        with pytest.warns(UserWarning, match=rf"{meta} holds other measurements"):
            Tuning.load(storage)
    else:
        if change == "gone":
            Path(meta).unlink()
        elif change == "garbage":
            Path(meta).write_text("garbage")
        with pytest.raises(ValueError, match=r"meta\.npz") as caught:
            Tuning.load(storage)
        assert len(str(caught.value).splitlines()) == 1


def test_a_corpus_that_is_gone(start: Callable[..., Tuning], corpus: Path, tmp_path: Path) -> None:
    start()
    corpus.unlink()
    with pytest.raises(ValueError, match=rf"there is no corpus {corpus}; name another"):
        Tuning.load(f"{tmp_path}/tune.journal")


@USES
def test_old_studies_are_read(
    start: Callable[..., Tuning], corpus: Path, tmp_path: Path, use: Use
) -> None:
    run(start(), 1)
    old = {k: v for k, v in stored(tmp_path).items() if k not in ("choices", "checksum")}
    store(tmp_path, old)
    assert use(start, f"{tmp_path}/tune.journal").predict().measured.sum() == 1
    store(tmp_path, old | {"memory": old["memory"][:-1]})
    with pytest.raises(ValueError, match=r"tuned over 8 configurations, but .* has 9 now"):
        use(start, f"{tmp_path}/tune.journal")


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        "text",
        {"memory": None},
        {"memory": "1"},
        {"memory": []},
        {"memory": [1.0, "2"]},
        {"memory": [1.0, float("nan")]},
        {"memory": [1.0, -1.0]},
        {"memory": [True] * 9},
        {"memory": [10**400]},
        {"memory": [[1.0]]},
        {"corpus": 3},
        {"corpus": ["a"]},
        {"rank": "2"},
        {"rank": True},
        {"meta": 4},
        {"experiment": None},
        {"experiment": [1]},
        {"experiment": {"nosuch": 1}},
        {"choices": 3},
        {"choices": [3]},
        {"choices": [["format_a"]]},
        {"choices": [["format_a", 3]]},
        {"choices": [[["format_a"], []]]},
        {"choices": {}},
        {"checksum": 5},
    ],
    ids=str,
)
@USES
def test_what_somebody_wrote_into_the_attribute_is_a_sentence(
    start: Callable[..., Tuning], tmp_path: Path, damage: Any, use: Use
) -> None:
    start()
    store(tmp_path, stored(tmp_path) | damage if isinstance(damage, dict) else damage)
    if damage == {"experiment": {"nosuch": 1}} and use is USES.args[1][1]:
        return  # who only looks trains nothing
    with pytest.raises(ValueError, match=r"study 'tune' in .*journal") as caught:
        use(start, f"{tmp_path}/tune.journal")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("missing", ["memory", "experiment"])
@USES
def test_what_is_missing_in_the_attribute_is_a_sentence(
    start: Callable[..., Tuning], tmp_path: Path, missing: str, use: Use
) -> None:
    start()
    store(tmp_path, {k: v for k, v in stored(tmp_path).items() if k != missing})
    with pytest.raises(ValueError, match=f"does not hold what `tune` stores.*{missing}"):
        use(start, f"{tmp_path}/tune.journal")
