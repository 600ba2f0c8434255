"""The entry points of `pyproject.toml`, for programs that look for them in installed packages."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment_with_entry_points(folder: Path) -> dict[str, str]:
    """Returns the environment of a process that finds the entry points as if this version of lmzoo were installed.

    `folder` is where the description of the package is written.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "lmzoo_here-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lmzoo-here\nVersion: 0\n", encoding="utf-8")
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = [str(folder), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
