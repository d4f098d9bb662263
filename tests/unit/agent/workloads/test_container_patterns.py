import pytest

from agent.workloads.container_patterns import is_meant
from agent.workloads.workload import Workload

ID = "4f03be01024cb617ff0884c9d7057c360c37a95f79972bb07ebee3ee837a7aad"
WEB = Workload(container_id=ID, names=("shop-web-1", "web"))


@pytest.mark.parametrize(
    "pattern",
    ["shop-web-1", "web", "shop-*", "*", "shop-web-[0-9]", "we?", ID, ID[:12], ID[:40]],
)
def test_meant(pattern: str) -> None:
    assert is_meant(WEB, [pattern])
    assert is_meant(WEB, ["another", pattern])


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "shop",
        "SHOP-WEB-1",
        "Web",
        "shop-web",
        "web-*",
        "/shop-web-1",
        ID[:11],
        ID[1:20],
        ID[:12].upper(),
        f"{ID}0",
        f"{ID[:12]}*",
    ],
)
def test_not_meant(pattern: str) -> None:
    assert not is_meant(WEB, [pattern])


def test_no_pattern_means_no_container() -> None:
    assert not is_meant(WEB, [])


def test_a_container_that_looks_like_an_id_goes_by_its_name() -> None:
    assert is_meant(Workload(container_id="0" * 64, names=("deadbeefcafe",)), ["deadbeefcafe"])


def test_a_name_with_a_character_of_patterns_is_taken_as_it_stands() -> None:
    assert is_meant(Workload(container_id=ID, names=("pod[1]",)), ["pod[1]"])


def test_an_unnamed_container_goes_by_its_id_only() -> None:
    unnamed = Workload(container_id=ID, names=(), is_resolved=False)
    assert is_meant(unnamed, [ID[:12]])
    assert not is_meant(unnamed, ["*"])
