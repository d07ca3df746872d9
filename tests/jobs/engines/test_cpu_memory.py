"""Memory that caches free as they grow is used again, not made anew by the system."""

from __future__ import annotations

import resource

import torch

from foreshock.jobs.engines.cpu_memory import keep_freed_memory

LAYERS, STEPS = 20, 12
PAGES = LAYERS * 4 * 2**20 // resource.getpagesize()


def test_growing_caches_take_no_new_pages_at_each_step() -> None:
    assert keep_freed_memory()
    caches = [torch.ones(64, 2**14) for _ in range(LAYERS)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(STEPS):
        for layer in range(LAYERS):
            caches[layer] = torch.cat([caches[layer], torch.ones(64, 64)], 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2 * PAGES  # else STEPS times as many
