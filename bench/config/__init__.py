"""The experiment: one TOML file, complete by itself, decoded into Structs that forbid unknown keys.

Plug-ins (arrival laws, length laws, precisions, policies, …) appear as tables with a `kind`; config
does not know the families, it only carries their tables. Whoever knows a family calls `choose` with
it: the plug-in's fields *are* the keys, so a dead or misplaced option cannot exist. Every error is
one line that names the file, the dotted key, what was expected and the nearest valid name.
"""

from __future__ import annotations

from bench.config.decoding import choose, decode_experiment, read_toml
from bench.config.experiment import (
    EXPECTATIONS,
    Assumptions,
    Capacity,
    Choice,
    Compile,
    Embodied,
    Expected,
    Experiment,
    Model,
    NonNegative,
    NonNegativeInt,
    Objectives,
    Positive,
    PositiveInt,
    Protocol,
    Quality,
    Seeds,
    Share,
    System,
    Workload,
)

__all__ = [
    "EXPECTATIONS",
    "Assumptions",
    "Capacity",
    "Choice",
    "Compile",
    "Embodied",
    "Expected",
    "Experiment",
    "Model",
    "NonNegative",
    "NonNegativeInt",
    "Objectives",
    "Positive",
    "PositiveInt",
    "Protocol",
    "Quality",
    "Seeds",
    "Share",
    "System",
    "Workload",
    "choose",
    "decode_experiment",
    "read_toml",
]
