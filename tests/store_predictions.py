"""Stores the predictions of new models and of raised versions; those of an unchanged version are never overwritten.

python tests/store_predictions.py MODEL ... for some models, without a name for all that need it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from support.stored_predictions import FOLDER, forms, not_comparable, store
from survbench.errors import BadConfig


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="registered models")
    models = parser.parse_args(arguments).models
    if reason := not_comparable():
        parser.error(reason)
    for unknown in sorted(set(models) - {form.model for form in forms().values()}):
        parser.error(f"no model of this repository is registered as '{unknown}'")
    refused = False
    for form in forms().values():
        if models and form.model not in models:
            continue
        try:
            print(store(form, folder))
        except BadConfig as refusal:
            if models:  # without a name most models are as they were stored
                print(f"not stored: {refusal}")
                refused = True
    return 2 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
