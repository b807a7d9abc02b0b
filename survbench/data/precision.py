"""Whether half precision holds a slide's features, or loses what tells its patches apart."""

from __future__ import annotations

import numpy as np

__all__ = ["float16_loss"]

TOLERATED = 1e-3  # share of the features' variance over patches; rounding of usual features takes 1e-7
SAMPLED = 64  # patches, evenly over the slide: what float16 loses is lost in all of them


def float16_loss(features: np.ndarray) -> str | None:
    """What is lost by storing features as float16; None where that is nothing to speak of.

    Parameters
    ----------
    features : (patches, width), finite, and within what float16 can hold.
    """
    if features.size == 0 or features.dtype == np.float16:
        return None
    features = features[:: -(-len(features) // SAMPLED)]
    with np.errstate(over="ignore", under="ignore"):
        lost = float(np.square(features - features.astype(np.float16), dtype=np.float64).sum())
    if lost == 0:
        return None
    centred = features - features.mean(axis=0, dtype=np.float64) if len(features) > 1 else features
    spread = float(np.square(centred, dtype=np.float64).sum())
    largest = float(np.abs(features).max())
    constant = spread <= 1e-15 * largest**2 * features.size  # equal patches: their size is all there is
    spread = float(np.square(features, dtype=np.float64).sum()) if constant else spread
    if lost <= TOLERATED * spread:
        return None
    return (
        f"rounding takes {min(lost / spread, 1):.1%} of what differs between its patches (values up to {largest:.3g})"
    )
