"""The script of the image's build that keeps of the kernel's headers what bcc reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/trim_kernel_headers.py"

TREE = {
    "include/linux/kconfig.h": "#include <generated/autoconf.h>",
    "include/generated/autoconf.h": "",
    "include/uapi/linux/bpf.h": "#include <linux/types.h>",
    "include/linux/types.h": '#ifdef NEVER\n#  include "beside.h"\n#endif\n// #include <linux/comment.h>',
    "include/linux/beside.h": "#include <linux/types.h>",
    "include/linux/comment.h": "",
    "include/linux/sound.h": "",
    "include/uapi/linux/types.h": "",
    "arch/x86/include/asm/page.h": "#include <asm/made.h>",
    "arch/x86/include/generated/asm/made.h": "",
    "arch/arm64/include/asm/page.h": "",
}
"""Of x86: what is generated is there for no other."""

KEPT = set(TREE) - {
    "include/linux/comment.h",
    "include/linux/sound.h",
    "arch/arm64/include/asm/page.h",
}


def test_what_the_roots_lead_to_is_kept_whatever_the_conditions(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "target"
    for name, text in TREE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    subprocess.run([sys.executable, SCRIPT, tree, target], check=True, stdout=subprocess.DEVNULL)
    kept = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert kept == KEPT
    assert all((target / name).read_text() == TREE[name] for name in kept)
