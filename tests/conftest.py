"""What the tests share: where optional data lies, and the species at a size that fits in a second."""

from __future__ import annotations

import os

# The suite runs on several workers; two threaded programs on the same cores slow each other down many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
