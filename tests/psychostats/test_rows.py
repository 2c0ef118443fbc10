"""The rows a formula is fitted to: those that lack a finite value are counted by column, and refused or dropped."""

import numpy as np
import pandas as pd
import pytest

from psychostats.errors import InputError
from psychostats.rows import select_rows
from psychostats.spec import specify

SPEC = specify("y ~ x + f + (1 | g)")


def trials():
    return pd.DataFrame(
        {
            "y": [0, 1] * 5,
            "x": np.arange(10.0),
            "f": list("ab") * 5,
            "g": np.repeat(["p", "q"], 5),
            "unused": [np.nan, np.inf] * 5,
        },
        index=pd.RangeIndex(2, 12, name="row"),
    )


def holes():
    data = trials().astype({"y": float, "f": object})
    data.loc[[4, 7], "x"] = np.inf, -np.inf
    data.loc[5, "x"] = np.nan
    data.loc[[5, 9], "f"] = None
    data.loc[11, "y"] = np.inf
    return data


def test_what_is_missing_and_what_is_infinite_is_counted_by_column():
    with pytest.raises(InputError) as caught:
        select_rows(SPEC, holes())
    assert str(caught.value) == (
        "5 rows lack a finite value that the formula needs: 'y' is infinite in row 11, 'x' is missing in row 5, "
        "'x' is infinite in 2 rows, the first row 4, 'f' is missing in 2 rows, the first row 5; complete them, or drop "
        "them with --missing drop."
    )
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match=r"^1 row lacks a finite value .*: 'x' is infinite in row 2; "):
        select_rows(SPEC, trials().replace({"x": {0.0: np.inf}}))


def test_both_are_dropped_and_counted():
    rows, dropped = select_rows(SPEC, holes(), "drop")
    assert dropped == 5
    assert rows.index.tolist() == [2, 3, 6, 8, 10]
    pd.testing.assert_frame_equal(rows, select_rows(SPEC, holes().loc[rows.index])[0])
    assert select_rows(SPEC, trials())[1] == 0


@pytest.mark.parametrize("store", ["Float64", "float32", object, str])
def test_infinite_values_are_found_however_they_are_stored(store):
    data = trials().assign(x=pd.Series([np.inf, 0.5, *range(8)], index=trials().index).astype(store))
    with pytest.raises(InputError, match="'x' is infinite in row 2;"):
        select_rows(SPEC, data)
    assert select_rows(SPEC, data, "drop")[1] == 1


def test_numbers_stored_as_objects_are_numbers():
    rows, _ = select_rows(SPEC, trials().assign(x=pd.Series([*range(9), 0.5], dtype=object).to_numpy()))
    assert rows["x"].tolist() == [*range(9), 0.5]
    assert rows["x"].dtype == float
    assert pd.api.types.is_string_dtype(select_rows(SPEC, trials().assign(x=[*range(9), "b"]))[0]["x"])


def test_a_level_may_be_called_infinite():
    data = trials().assign(f=["inf", "sup"] * 5)
    assert select_rows(SPEC, data)[0]["f"].tolist() == ["inf", "sup"] * 5
    data["f"] = pd.Categorical(["inf", "50"] * 5, ["50", "inf"])
    assert select_rows(SPEC, data)[0]["f"].cat.categories.tolist() == ["50", "inf"]


def test_cells_that_cannot_be_hashed_are_text():
    assert select_rows(SPEC, trials().assign(f=[["a"], ["b"]] * 5))[0]["f"].tolist() == ["['a']", "['b']"] * 5
