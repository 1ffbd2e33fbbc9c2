"""The whole cloud on one seeded loop: mixed work while processes die and messages are lost; then the books balance.

Replay one seed: `KILONOVA_SEED=17 pytest tests/laws/test_whole_cloud.py -k replay`.
"""

from __future__ import annotations

import pytest

from kilonova.sim.loop import run
from tests.laws.whole import Whole, mixed_work


@pytest.mark.parametrize("block", range(20))
def test_200_seeds_of_mixed_work_with_crashes_and_a_bad_network_balance(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        run(mixed_work(Whole(seed, faulty=True), 8), seed)
