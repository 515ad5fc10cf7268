"""Coherence: how much of it is asked for, where, and what counts where nobody judged it. The one place for both.

=============  =====  ==================================================================================================
`KEPT`         50     both answers of a pair that a vector is made from (arXiv 2507.21509)
`USABLE`       70     mean of the answers at one coefficient, for a result to be called usable or coherent
`CHOSEN`       75     the same where a dose or layer is chosen, on few questions, for results that must come out usable; the
                      paper keeps its doses above it
=============  =====  ==================================================================================================

Coherence that nobody judged is unknown, neither good nor bad: no pair, dose or layer is passed over for it, and none is called
coherent. So a choice asks ``coherent(...) is not False``, and a claim asks ``coherent(...) is True``. Where a judge scored the
coherence of some answers, those it did not score are in no mean, and no pair is made of them.
"""

from __future__ import annotations

KEPT = 50.0
USABLE = 70.0
CHOSEN = 75.0


def coherent(coherence: float | None, least: float) -> bool | None:
    """Whether a (mean) coherence, 0-100, is at least `least`; None where it was not judged, which is not known to be either."""
    return None if coherence is None else coherence >= least
