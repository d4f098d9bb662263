from __future__ import annotations

from pathlib import Path

import pytest

from ebpf.kernel_headers import KernelHeadersError, find_kernel_headers

RELEASE = "6.1.0-test"


def make_tree(path: Path) -> Path:
    (path / "include/linux").mkdir(parents=True)
    (path / "include/linux/kconfig.h").touch()
    return path


def find(root: Path, **environment: str) -> Path | None:
    return find_kernel_headers(environment, root / "venv", root, RELEASE)


def test_they_are_looked_for_in_order(tmp_path: Path) -> None:
    installed = make_tree(tmp_path / "usr/src/linux-headers-6.1.0-1-amd64")
    newer = make_tree(tmp_path / "usr/src/linux-headers-6.1.0-2-amd64")
    (tmp_path / "usr/src/linux-headers-6.1.0-3-common").mkdir()
    assert find(tmp_path) == newer != installed
    archive = tmp_path / "sys/kernel/kheaders.tar.xz"
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert find(tmp_path) is None
    build = make_tree(tmp_path / "lib/modules" / RELEASE / "build")
    assert find(tmp_path) == build
    pinned = make_tree(tmp_path / "venv/share/wirespan/kernel-headers")
    assert find(tmp_path) == pinned
    other = make_tree(tmp_path / "other")
    assert find(tmp_path, BCC_KERNEL_SOURCE=str(other)) == other
    assert find(tmp_path, WIRESPAN_KERNEL_HEADERS=str(build), BCC_KERNEL_SOURCE=str(other)) == build
    assert find(tmp_path, WIRESPAN_KERNEL_HEADERS="") == pinned


def test_a_setting_that_names_no_tree_is_refused_not_passed_over(tmp_path: Path) -> None:
    make_tree(tmp_path / "venv/share/wirespan/kernel-headers")
    with pytest.raises(KernelHeadersError, match=r"BCC_KERNEL_SOURCE names /nowhere, .* unset it"):
        find(tmp_path, BCC_KERNEL_SOURCE="/nowhere")


def test_the_archive_alone_is_left_to_bcc(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/kheaders.tar.xz").touch()
    assert find(tmp_path) is None


def test_nothing_found_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(KernelHeadersError, match="apt-get install linux-headers-"):
        find(tmp_path)
