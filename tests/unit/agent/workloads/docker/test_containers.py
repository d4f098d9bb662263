from typing import Any

import pytest

from agent.workloads.docker.containers import (
    DEFAULT_LABELS,
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    DockerContainer,
    describe_event,
    describe_inspected,
)
from agent.workloads.workload import Workload

ID = "4f03be01024cb617ff0884c9d7057c360c37a95f79972bb07ebee3ee837a7aad"
IMAGE_ID = "sha256:2618514beb5e3898795a70d6cd90830d195e2a734ddf68bfad3633a29fd9a3b2"
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "secret": "s"}


def answer(**changes: Any) -> dict[str, Any]:
    """An answer of GET /containers/ID/json, as far as it is read."""
    return {
        "Id": ID,
        "Name": "/shop-web-1",
        "Image": IMAGE_ID,
        "State": {"Status": "running"},
        "Config": {"Image": "shop/web:1.2", "Labels": COMPOSE},
        "NetworkSettings": {
            "Networks": {
                "shop_default": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": "fd00::2"},
                "other": {"IPAddress": "172.19.0.2", "GlobalIPv6Address": ""},
            }
        },
    } | changes


def event(**attributes: str) -> dict[str, Any]:
    """An event about a container."""
    held = {"image": "shop/web:1.2", "name": "shop-web-1", **attributes}
    return {"Type": "container", "Action": "start", "Actor": {"ID": ID, "Attributes": held}}


def test_an_inspected_container() -> None:
    assert describe_inspected(answer(), DEFAULT_LABELS) == DockerContainer(
        Workload(
            container_id=ID,
            names=("shop-web-1", "web"),
            attributes={
                "container.id": ID,
                "container.name": "shop-web-1",
                "container.image.name": "shop/web",
                "container.runtime.name": "docker",
                "container.label.com.docker.compose.project": "shop",
                "container.label.com.docker.compose.service": "web",
            },
        ),
        ("172.18.0.2", "fd00::2", "172.19.0.2"),
    )


def test_an_event_says_the_same_but_for_addresses() -> None:
    told = describe_event(event(**COMPOSE, exitCode="0", oldName="/x"), DEFAULT_LABELS)
    assert told is not None
    assert told.workload == describe_inspected(answer(), DEFAULT_LABELS).workload
    assert told.addresses == ()


def test_attributes_of_an_event_that_are_no_labels() -> None:
    told = describe_event(event(oldName="/x", exitCode="137", signal="9", execID="1"), ["*"])
    assert told is not None
    assert not any(name.startswith("container.label.") for name in told.workload.attributes)


@pytest.mark.parametrize("changes", [{"name": ""}, {"image": ""}])
def test_an_event_that_does_not_name_its_container(changes: dict[str, str]) -> None:
    assert describe_event(event(**changes), ()) is None
    assert describe_event({"Actor": {"ID": ID, "Attributes": None}}, ()) is None


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.26", "nginx"),
        ("shop/web:1.2", "shop/web"),
        ("registry.example:5000/shop/web", "registry.example:5000/shop/web"),
        ("registry.example:5000/shop/web:1.2", "registry.example:5000/shop/web"),
        ("shop/web@sha256:" + "0" * 64, "shop/web"),
        ("shop/web:1.2@sha256:" + "0" * 64, "shop/web"),
        ("cafe", "cafe"),
        (IMAGE_ID, None),
        (IMAGE_ID.removeprefix("sha256:"), None),
        (IMAGE_ID.removeprefix("sha256:")[:12], None),
        ("", None),
    ],
)
def test_the_name_of_an_image(image: str, name: str | None) -> None:
    inspected = describe_inspected(answer(Config={"Image": image}), ())
    assert inspected.workload.attributes.get("container.image.name") == name


@pytest.mark.parametrize("image", [IMAGE_ID, IMAGE_ID.removeprefix("sha256:")[:12], "cafe"])
def test_an_event_leaves_open_whether_an_image_is_named_by_its_id(image: str) -> None:
    told = describe_event(event(image=image), ())
    assert told is not None
    assert not told.workload.is_resolved
    assert "container.image.name" not in told.workload.attributes


@pytest.mark.parametrize(
    ("globs", "exported"),
    [
        ((), set()),
        (("secret",), {"secret"}),
        (("com.docker.compose.*",), {"com.docker.compose.project", "com.docker.compose.service"}),
        (("COM.*", "secre"), set()),
        (("*",), set(COMPOSE)),
    ],
)
def test_labels_are_chosen_by_their_keys(globs: tuple[str, ...], exported: set[str]) -> None:
    attributes = describe_inspected(answer(), globs).workload.attributes
    prefix = "container.label."
    assert {name.removeprefix(prefix) for name in attributes if name.startswith(prefix)} == exported


def test_labels_beyond_their_bounds_are_left_out_and_counted() -> None:
    labels = {f"l{number:03}": "x" for number in range(MAX_LABELS + 3)}
    labels["long"] = "x" * (MAX_LABEL_CHARACTERS + 1)
    inspected = describe_inspected(answer(Config={"Image": "a", "Labels": labels}), ["l*"])
    attributes = inspected.workload.attributes
    assert sum(name.startswith("container.label.") for name in attributes) == MAX_LABELS
    assert "container.label.long" not in attributes
    assert inspected.labels_left_out == 4


def test_a_service_of_the_containers_own_name_is_named_once() -> None:
    labels = {"com.docker.compose.service": "shop-web-1"}
    inspected = describe_inspected(answer(Config={"Image": "a", "Labels": labels}), ())
    assert inspected.workload.names == ("shop-web-1",)


@pytest.mark.parametrize("status", ["exited", "dead", "removing"])
def test_a_container_that_has_ended_has_no_address(status: str) -> None:
    inspected = describe_inspected(answer(State={"Status": status}), ())
    assert inspected.has_ended
    assert inspected.addresses == ()


@pytest.mark.parametrize("status", ["created", "running", "paused", "restarting"])
def test_a_container_that_has_not_ended(status: str) -> None:
    assert not describe_inspected(answer(State={"Status": status}), ()).has_ended


def test_members_that_are_missing_or_null() -> None:
    bare = DockerContainer(
        Workload(
            container_id=ID, names=(), attributes={"container.id": ID, "container.runtime.name": "docker"}
        )
    )
    assert describe_inspected({"Id": ID}, ["*"]) == bare
    names = ("Name", "Image", "State", "Config", "NetworkSettings")
    assert describe_inspected({"Id": ID, **dict.fromkeys(names)}, ["*"]) == bare
    assert describe_inspected(answer(NetworkSettings={"Networks": None}), ()).addresses == ()
