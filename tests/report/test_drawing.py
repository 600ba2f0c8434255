"""Pages where figures cannot be drawn, because the address space is limited (ulimit -v)."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys, warnings
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (16 * 10**9, 16 * 10**9))
import altair
from lmzoo.errors import LmzooError
from lmzoo.report.charts import as_svg
from lmzoo.report.figures import Figures
from lmzoo.report.pages import write_pages
from lmzoo.system.printable import print_warnings_as_lines

print_warnings_as_lines()
chart = altair.layer(altair.Chart(altair.Data(values=[])).mark_bar(), title="a <b>")
try:
    as_svg(chart)
except LmzooError as error:
    print(error)
figures = Figures()
figure = figures.draw("name", chart)
print(figure.svg, figure.is_drawn)
figures.save(Path("/nowhere"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit has other effects")
def test_figures_are_left_out_if_the_address_space_is_too_small() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    reason = (
        "figures cannot be drawn, because the limit of address space (ulimit -v) is too low for the JavaScript engine "
        "that draws them: raise the limit"
    )
    assert ended.returncode == 0, ended.stderr
    caption = f"<figcaption>a &lt;b&gt;: {reason}</figcaption> False"
    assert ended.stdout.splitlines() == [reason, caption]
    assert ended.stderr.splitlines() == [f"lmzoo: {reason} and repeat the command"]
