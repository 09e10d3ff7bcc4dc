"""A model that two processes share: it learns, saves and resumes as one that is whole."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from shared.storage import Storage
from tests.trainer_service.families import prepare_family
from tests.trainer_service.sharded_trainings import CASES, STOPPED
from tests.trainer_service.tiny import prepare_tiny_model
from trainer_service.batching import PassLimits
from trainer_service.child_process import child_environment
from trainer_service.data_parallel import Ranks
from trainer_service.passes import nothing_to_learn, own_passes
from trainer_service.tokenizing import AnyRow, PairRow, Row

PATIENCE_SECONDS = 250


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """All trainings, made by one pair of processes: their start takes longest."""
    storage = Storage(tmp_path_factory.mktemp("sharded"))
    prepare_tiny_model(storage)
    for name in ("gpt_neox", "t5"):
        prepare_family(storage, name)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    module = ("--nproc-per-node=2", "--module", "tests.trainer_service.sharded_trainings")
    ended = subprocess.run(
        [*torchrun, *module, str(storage.root)],
        env=child_environment({**os.environ, "OMP_NUM_THREADS": "1"}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return storage


def said(storage: Storage, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((storage.root / f"{name}.json").read_text())
    return found


def weights(storage: Storage, name: str) -> dict[str, Any]:
    [file] = storage.run_result(name).glob("*.safetensors")
    return load_file(file)


def assert_same_weights(storage: Storage, one: str, other: str) -> None:
    first, second = weights(storage, one), weights(storage, other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype
        assert (value - second[key]).abs().max() < 1e-4, key


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", list(CASES))
def test_two_processes_that_share_a_model_learn_as_one_does(trained: Storage, case: str) -> None:
    one, two = said(trained, f"{case}-alone"), said(trained, f"{case}-sharded")
    # Evaluated at 4 and 8, and before the checkpoints of 3 and 6.
    assert len(two["losses"]) == 8 and len(two["evaluations"]) == 4
    for curve in ("losses", "norms", "evaluations"):
        assert two[curve] == pytest.approx(one[curve], abs=1e-4), curve
    assert two["samples"] == one["samples"] and len(two["samples"]) == 8
    assert_same_weights(trained, f"{case}-alone", f"{case}-sharded")
    # Each holds its share: whatever has fewer rows than there are processes is the exception.
    assert two["held"] < 0.55 * one["held"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["sharded", "alone"])
def test_a_run_goes_on_from_a_sharded_checkpoint_sharded_or_not(trained: Storage, way: str) -> None:
    assert said(trained, "stopped")["preempted"]
    whole, rest = said(trained, "llama-full-alone"), said(trained, f"resumed-{way}")
    assert min(map(int, rest["losses"])) == STOPPED + 1
    same = {step: whole["losses"][step] for step in rest["losses"]}
    assert rest["losses"] == pytest.approx(same, abs=1e-4)
    assert_same_weights(trained, "llama-full-alone", f"resumed-{way}")
    share = rest["optimizer_bytes"] / whole["optimizer_bytes"]
    assert share < 0.55 if way == "sharded" else share == 1


@pytest.mark.timeout(300)
def test_in_half_precision_layers_compute_and_gradients_are_summed_in_full(
    trained: Storage,
) -> None:
    half = said(trained, "half")
    assert half["dtype"] == "torch.float32" and 0.99 < half["alike"] < 1


@pytest.mark.timeout(300)
def test_a_gradient_that_overflows_in_one_share_costs_all_their_step(trained: Storage) -> None:
    assert said(trained, "overflow") == {"changed": False, "scale": 2.0**15}


def a_row(tokens: int) -> Row:
    return Row(tuple(range(tokens)), tuple(range(tokens)))


def a_pair(tokens: int) -> PairRow:
    return PairRow(tuple(range(tokens)), tuple(range(tokens)))


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=30),
    size=st.integers(2, 5),
    max_rows=st.integers(1, 8),
    kind=st.sampled_from([a_row, a_pair]),
)
def test_all_make_equally_many_passes_and_every_row_is_in_one(
    lengths: list[int], size: int, max_rows: int, kind: Any
) -> None:
    rows: list[AnyRow] = [kind(length) for length in lengths]
    ranks = [Ranks(rank, size, sharded=True) for rank in range(size)]
    passes = [own_passes(rows, each, PassLimits(max_rows, 512)) for each in ranks]
    assert len({len(own) for own in passes}) == 1
    found = [row for own in passes for part in own for row in part]
    nothing = nothing_to_learn(rows[0])
    learning = [row for row in found if row != nothing]
    assert sorted(sum(row.size) for row in learning) == sorted(sum(row.size) for row in rows)
    # Who holds the whole model need not wait for the others.
    alone = own_passes(rows, Ranks(0, size), PassLimits(max_rows, 512))
    assert alone == passes[0][: len(alone)]
