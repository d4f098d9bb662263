from __future__ import annotations

from agent.metrics import OBSERVATIONS, VERDICT_PREFIX, _discovery
from ebpf.layout import LOSSES, Counter
from tests.stand_ins import ToldDiscovery


def test_every_counter_of_the_kernel_side_is_a_loss_a_verdict_or_described() -> None:
    others = {counter.name.lower() for counter in Counter if counter not in LOSSES}
    described = {name for name in others if not name.startswith(VERDICT_PREFIX)}
    assert described <= set(OBSERVATIONS)


def test_what_discovery_knows_is_told_apart_from_what_it_did() -> None:
    state, done = _discovery(ToldDiscovery())
    assert (state.type, [(sample.labels["what"], sample.value) for sample in state.samples]) == (
        "gauge",
        [("containers", 0)],
    )
    assert (done.type, [(sample.labels["what"], sample.value) for sample in done.samples]) == (
        "counter",
        [("questions", 3)],
    )
