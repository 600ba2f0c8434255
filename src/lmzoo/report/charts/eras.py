"""The colours of the eras of language models, as a scale of a chart."""

from __future__ import annotations

import altair

from lmzoo.zoo.eras import ERAS

ERA_COLOURS = altair.Scale(domain=[era.name for era in ERAS], range=[era.colour for era in ERAS])
