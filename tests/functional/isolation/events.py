# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest notices of what happens to it: said by the test that shows it.

@event is for documentation: scripts/lib/events_docs.py reads it from the
source, and writes a table of all of them.  With isolation the test shows what
is said.  @off is what is different without: a test with no difference has to
pass then, and one with a difference must not (`scripts/check events` tries
both).
"""

from __future__ import annotations

from typing import Callable, TypeVar

T = TypeVar("T", bound=Callable[..., None])


def event(device: str, what: str, on: str, off: str = "") \
        -> Callable[[T], T]:
    """The guest has a @device, @what happens, and it notices @on."""
    def mark(test: T) -> T:
        return test

    assert device and what and on and off != on
    return mark
