from __future__ import annotations

from agent.metrics import OBSERVATIONS, VERDICT_PREFIX, _discovery, _tls
from agent.tls.attachments import ProbedStack
from agent.tls.inspector import Inspector
from agent.tls.tls_processes import TlsProcesses
from ebpf.events import Policy
from ebpf.layout import LOSSES, Counter
from ebpf.tls.probes import TlsStack
from tests.stand_ins import PoliciesInMemory, ProbesInMemory, ToldDiscovery


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


class TapsOnJava(TlsProcesses):
    """Taps that have met what can't be probed."""

    def stacks(self) -> list[ProbedStack]:
        java = TlsStack(name="java", obstacle="no function")
        return [
            ProbedStack(java, "/a/libjvm.so", 2, "no function"),
            ProbedStack(java, "/b/libjvm.so", 3, "no function"),
            ProbedStack(TlsStack(name="openssl"), "/libssl.so", 4, None),
        ]


def test_tls_that_stays_unseen_is_counted_by_its_name() -> None:
    inspector = Inspector(lambda *_: None, lambda _, *, is_executable: is_executable)
    tls_processes = TapsOnJava(ProbesInMemory(), PoliciesInMemory(), inspector, default_policy=Policy.IGNORE)
    state, done, unseen = _tls(tls_processes)
    tls_processes.close()
    assert {sample.labels["what"] for sample in state.samples} == TlsProcesses.states
    names = {sample.labels["what"] for sample in done.samples}
    assert {"attached_files", "attach_failures", "queue_overflows", "inspected_files"} < names
    assert not names & TlsProcesses.states
    assert [(sample.labels["stack"], sample.value) for sample in unseen.samples] == [("java", 5)]
