from __future__ import annotations

from agent.metrics import OBSERVATIONS, VERDICT_PREFIX
from ebpf.layout import LOSSES, Counter


def test_every_counter_of_the_kernel_side_is_a_loss_a_verdict_or_described() -> None:
    others = {counter.name.lower() for counter in Counter if counter not in LOSSES}
    described = {name for name in others if not name.startswith(VERDICT_PREFIX)}
    assert described <= set(OBSERVATIONS)
