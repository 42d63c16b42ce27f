# ruff: noqa: NPY002 - the legacy generator is what is seeded and told
"""What `runcard.capture.seeds` seeds, tells and puts back."""

from __future__ import annotations

import json
import random
import sys
import types

import numpy as np
import pytest

from runcard.capture import seeds


@pytest.fixture(autouse=True)
def generators():
    """The generators are as before after each test."""
    ours, numpys = random.getstate(), np.random.get_state()
    yield
    random.setstate(ours)
    np.random.set_state(numpys)


def fake_torch(**more):
    cudnn = types.SimpleNamespace(deterministic=True, benchmark=False)
    return types.SimpleNamespace(
        manual_seed=lambda seed: seed,
        initial_seed=lambda: 2**63 + 5,
        get_num_threads=lambda: 8,
        are_deterministic_algorithms_enabled=lambda: True,
        backends=types.SimpleNamespace(cudnn=cudnn),
        cuda=types.SimpleNamespace(is_initialized=lambda: False),
        **more,
    )


@pytest.mark.parametrize("seed", [0, 7, -3, 2**40, 2**200])
def test_one_seed_gives_the_same_numbers(monkeypatch, seed):
    """Seeding twice gives the same numbers twice, for every integer, and tells which generators took it."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    told = seeds.seed_all(seed)
    first = random.random(), np.random.random()
    assert seeds.seed_all(seed) == told
    assert (random.random(), np.random.random()) == first
    assert (told["random"], told["numpy"]) == (True, True)
    assert "torch" not in told
    assert json.loads(json.dumps(told)) == told


def test_pytorch_is_seeded_where_it_is_loaded(monkeypatch):
    """A loaded PyTorch gets the seed; one that is only half imported costs nothing."""
    got = []
    torch = fake_torch()
    torch.manual_seed = lambda seed: got.append(seed) or torch
    monkeypatch.setitem(sys.modules, "torch", torch)
    told = seeds.seed_all(-1)
    assert got == [2**64 - 1]
    assert (told["torch"], told["torch_cuda"]) == (True, "when it starts")
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    told = seeds.seed_all(1)
    assert (told["numpy"], told["torch"]) == (False, False)


def test_state_is_told_and_put_back():
    """What is told, through JSON, puts the generators back to where they stood; asking moves none of them."""
    random.gauss(0, 1)  # leaves a second number waiting
    np.random.standard_normal()
    told = seeds.state()
    first = random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.random()
    assert seeds.state()["random"]["sha256"] != told["random"]["sha256"]
    assert seeds.restore(json.loads(json.dumps(told, allow_nan=False))) == ["random", "numpy"]
    assert seeds.state() == told
    assert (random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.random()) == first


def test_a_damaged_state_puts_nothing_back():
    """A state that is cut or of another kind is refused, and the generators stay."""
    told = seeds.state()
    before = random.getstate()
    told["random"]["state"] = told["random"]["state"][:100]
    told["numpy"] = {"generator": "PCG64"}
    assert seeds.restore(told) == []
    assert random.getstate() == before


def test_pytorch_switches(monkeypatch):
    """The switches that decide about reproducibility are told; one that this version lacks is left out."""
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    assert seeds.state()["torch"] == {
        "initial_seed": str(2**63 + 5),
        "threads": 8,
        "deterministic_algorithms": True,
        "cudnn_deterministic": True,
        "cudnn_benchmark": False,
    }


def test_nothing_is_imported(monkeypatch):
    """Generators that the user has not loaded are not asked, and not loaded."""
    for name in ("torch", "numpy", "numpy.random"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    told = seeds.state()
    assert "numpy" not in told
    assert "torch" not in told
    assert "numpy" not in sys.modules


def test_another_generator_beneath_numpy(monkeypatch):
    """Where the user has put another generator beneath the legacy functions, its name is told."""
    other = types.SimpleNamespace(get_state=lambda legacy: {"bit_generator": "PCG64", "state": {}})
    monkeypatch.setitem(sys.modules, "numpy.random", other)
    assert seeds.state()["numpy"] == {"generator": "PCG64"}
