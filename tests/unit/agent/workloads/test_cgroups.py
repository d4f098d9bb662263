"""Containers by the cgroup paths that runtimes and kubelet are known to make."""

import pytest

from agent.workloads.cgroups import find_container
from agent.workloads.workload import ContainerReference

ID = "4f03be01024cb617ff0884c9d7057c360c37a95f79972bb07ebee3ee837a7aad"
OUTER = "0a59f2a1c94f0d7ae5b2a8cd4b8d1c38a4f2d1a0f2b95a7b1a3c5e7f90d1b2c3"
UID = "6d2e0ef7-3f39-4f5a-a8f3-2b0fd5e33d05"
UID_IN_SLICE = UID.replace("-", "_")
STATIC_UID = "1f6a5b1a5e1d3fd4f4b1c7c7a9e0d2b8"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/docker/{ID}", id="docker, cgroupfs"),
        pytest.param(f"/system.slice/docker-{ID}.scope", id="docker, systemd"),
        pytest.param(
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope", id="rootless"
        ),
        pytest.param(f"/docker/{ID} (deleted)", id="removed under the process"),
        pytest.param(f"/../{ID}", id="a sibling, from a private namespace"),
        pytest.param(f"/../docker-{ID}.scope", id="a sibling's scope, from a private namespace"),
        pytest.param(
            f"/../../../system.slice/docker-{ID}.scope/init.scope", id="systemd inside, from a private one"
        ),
        pytest.param(f"/docker/{ID}/system.slice/nginx.service", id="systemd inside of docker"),
        pytest.param(f"/docker/{OUTER}/docker/{ID}", id="docker in docker"),
        pytest.param(
            f"/system.slice/docker-{OUTER}.scope/docker/{ID}", id="docker in docker, systemd outside"
        ),
        pytest.param(f"/lxc/build/docker/{ID}", id="docker in LXC"),
        pytest.param(f"/default/{ID}", id="containerd's own client"),
        pytest.param(f"/system.slice/nerdctl-{ID}.scope", id="nerdctl"),
        pytest.param(f"/machine.slice/libpod-{ID}.scope", id="podman"),
        pytest.param(f"/machine.slice/libpod-{ID}.scope/container", id="podman with crun"),
        pytest.param(f"/libpod_parent/libpod-{ID}", id="podman, cgroupfs"),
        pytest.param(f"/system.slice/web.service/libpod-payload-{ID}", id="podman, split"),
        pytest.param(
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
            id="podman, rootless",
        ),
        pytest.param(f"{ID}", id="innermost component alone"),
    ],
)
def test_a_container_without_a_pod(path: str) -> None:
    assert find_container([path]) == ContainerReference(ID)


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        pytest.param(f"/kubepods/burstable/pod{UID}/{ID}", UID, id="cgroupfs, burstable"),
        pytest.param(f"/kubepods/besteffort/pod{UID}/{ID}", UID, id="cgroupfs, best effort"),
        pytest.param(f"/kubepods/pod{UID}/{ID}", UID, id="cgroupfs, guaranteed"),
        pytest.param(f"/kubepods/burstable/pod{STATIC_UID}/{ID}", STATIC_UID, id="cgroupfs, static pod"),
        pytest.param(
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_IN_SLICE}.slice"
            f"/cri-containerd-{ID}.scope",
            UID,
            id="systemd, containerd",
        ),
        pytest.param(
            f"/kubepods.slice/kubepods-pod{UID_IN_SLICE}.slice/cri-containerd-{ID}.scope",
            UID,
            id="systemd, containerd, guaranteed",
        ),
        pytest.param(
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_IN_SLICE}.slice/crio-{ID}.scope",
            UID,
            id="systemd, CRI-O",
        ),
        pytest.param(
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_IN_SLICE}.slice/docker-{ID}.scope",
            UID,
            id="systemd, cri-dockerd",
        ),
        pytest.param(
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC_UID}.slice"
            f"/cri-containerd-{ID}.scope",
            STATIC_UID,
            id="systemd, static pod",
        ),
        pytest.param(
            f"/kubepods.slice/kubepods-pod{UID_IN_SLICE}.slice/crio-{ID}.scope/container",
            UID,
            id="CRI-O with crun",
        ),
        pytest.param(
            f"/system.slice/containerd.service/kubepods-burstable-pod{UID_IN_SLICE}.slice:cri-containerd:{ID}",
            UID,
            id="cgroup drivers of kubelet and containerd differ",
        ),
        pytest.param(
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"
            f"/kubelet-kubepods-burstable-pod{UID_IN_SLICE}.slice/cri-containerd-{ID}.scope",
            UID,
            id="kubelet with a cgroup root",
        ),
        pytest.param(
            f"/docker/{OUTER}/kubelet/kubepods/burstable/pod{UID}/{ID}", UID, id="a node that is a container"
        ),
        pytest.param(f"/../../pod{UID}/{ID}", UID, id="from a private namespace of another pod"),
        pytest.param(
            f"/../../kubepods-burstable-pod{UID_IN_SLICE}.slice/cri-containerd-{ID}.scope",
            UID,
            id="from a private namespace of another pod, systemd",
        ),
        pytest.param(f"/kubepods/burstable/pod{UID}/{OUTER}/docker/{ID}", UID, id="docker in a pod"),
        pytest.param(f"pod{UID}/{ID}", UID, id="innermost components alone"),
    ],
)
def test_a_container_of_a_pod(path: str, uid: str) -> None:
    assert find_container([path]) == ContainerReference(ID, uid)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/..",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope",
        "/system.slice/nginx.service",
        "/system.slice/containerd.service",
        "/init.scope",
        "/lxc.payload.web",
        "/system.slice/run-r2f5e1c2f8f7d4c0d9a3b5a6c7d8e9f00.scope",
        "/process_api/60f7214900319ee8298a4bac34ff6bbd",
        pytest.param(f"/machine.slice/libpod-conmon-{ID}.scope", id="podman's monitor"),
        pytest.param(
            f"/kubepods.slice/kubepods-pod{UID_IN_SLICE}.slice/crio-conmon-{ID}.scope", id="CRI-O's monitor"
        ),
        pytest.param(f"/system.slice/{ID}.service", id="podman's health check"),
        pytest.param(f"/system.slice/docker-{ID}.mount", id="a mount"),
        pytest.param(f"/kubepods/burstable/pod{UID}", id="a pod without a container"),
        pytest.param(f"/docker/{ID[:-1]}", id="63 digits"),
        pytest.param(f"/docker/{ID}0", id="65 digits"),
        pytest.param(f"/docker/{ID.upper()}", id="capitals"),
    ],
)
def test_no_container(path: str) -> None:
    assert find_container([path]) is None


def test_any_hierarchy_counts() -> None:
    assert find_container(
        ["/user.slice", "/system.slice/docker.service", f"/docker/{ID}"]
    ) == ContainerReference(ID)
    assert find_container([]) is None


def test_the_hierarchy_that_knows_the_inner_container_wins() -> None:
    outer, inner = f"/docker/{OUTER}", f"/docker/{OUTER}/docker/{ID}"
    assert find_container([outer, inner]) == ContainerReference(ID)
    assert find_container([inner, outer]) == ContainerReference(ID)


def test_the_hierarchy_that_names_the_pod_wins() -> None:
    assert find_container([f"/{ID}", f"/kubepods/pod{UID}/{ID}"]) == ContainerReference(ID, UID)
