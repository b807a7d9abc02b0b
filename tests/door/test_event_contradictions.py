"""A flag and the word behind it that disagree are refused by patient, in either polarity."""

from __future__ import annotations

import pandas as pd
import pytest

from survbench.data.importers.labels import as_event
from survbench.data.validation import label_problems


@pytest.mark.parametrize(
    ("text", "censorship"),
    [("0:DECEASED", False), ("1:LIVING", False), ("1: Disease Free", False), ("1:DECEASED", True), ("0:Alive", True)],
)
def test_a_flag_that_its_word_denies_is_refused(text: str, censorship: bool) -> None:
    event = as_event(pd.Series([text]), censorship=censorship)
    labels = pd.DataFrame({"time": ["12"], "event": event.tolist()}, index=["P01"])
    assert label_problems(labels) == {"P01": f"has event {text}, expected 0 (censored) or 1 (died)"}


@pytest.mark.parametrize(
    ("text", "censorship", "event"),
    [
        ("1:DECEASED", False, "1"),
        ("0:LIVING", False, "0"),
        ("0:DECEASED", True, "1"),
        ("1:CENSORED", True, "0"),
        ("0:ALIVE OR DEAD TUMOR FREE", False, "0"),
        ("1:anything else", False, "1"),
    ],
)
def test_a_flag_that_its_word_supports_is_read(text: str, censorship: bool, event: str) -> None:
    assert as_event(pd.Series([text]), censorship=censorship).tolist() == [event]
