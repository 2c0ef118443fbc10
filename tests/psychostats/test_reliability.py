"""The reliability diagram draws in the plain and the awkward case, and says what its band is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from psychostats.errors import InputError
from psychostats.figures import save_figure
from psychostats.reliability import plot_calibration

LABEL = "90 % of data drawn"


def table(experiments: list[str], cells: int) -> pd.DataFrame:
    at = np.linspace(0.55, 0.97, cells) if cells > 1 else np.array([0.7])
    parts = [
        pd.DataFrame({"predicted": at, "n": 3, "observed": np.round(at, 1), "experiment": name}) for name in experiments
    ]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(conf_low=whole["predicted"] - 0.08, conf_high=np.minimum(whole["predicted"] + 0.08, 1.0))


@pytest.mark.parametrize("cells", [1, 2, 400])
@pytest.mark.parametrize("experiments", [["only"], ["a", "b", "c"], [r"$\bad{$ 日本", "x", "y", "z"]], ids=len)
def test_it_draws_without_a_warning(experiments: list[str], cells: int, tmp_path: Path) -> None:
    path = save_figure(plot_calibration(table(experiments, cells), interval_label=LABEL), tmp_path / "figure")
    assert path.read_bytes().startswith(b"<?xml")


def test_it_says_what_is_drawn() -> None:
    shown = plot_calibration(table(["only"], 400), interval_label=LABEL).labels.caption.replace("\n", " ")
    assert f"Band: {LABEL}." in shown and "The outermost 2 % of trials" in shown
    few = plot_calibration(table(["only"], 5), interval_label=LABEL).labels.caption
    assert "outermost" not in few  # nothing is left out of few predictions


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="the table 'check' to draw has no rows"):
        plot_calibration(table(["only"], 3).iloc[:0], interval_label=LABEL)
