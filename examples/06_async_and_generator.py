"""Coroutines and generators are tracked as they are: the run spans the await, or the whole iteration."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

from runcard import log, open_store, tracked


@tracked
async def probe(server: str, requests: int = 5) -> dict[str, float]:
    """Three of these run at once, each with a run of its own: `log` knows which task it is in."""
    total = 0.0
    for request in range(requests):
        delay = random.Random(f"{server}{request}").uniform(0.001, 0.01)
        await asyncio.sleep(delay)
        total += delay
        log(delay=delay, step=request)
    return {"mean_delay": total / requests}


@tracked
def batches(size: int = 4, count: int = 3) -> Iterator[list[int]]:
    """The run opens at the first batch and ends with the last one, or when the consumer has had enough."""
    for batch in range(count):
        log(batch=batch, step=batch)
        yield list(range(batch * size, (batch + 1) * size))


async def main() -> None:
    """Probe three servers at once."""
    print(await asyncio.gather(probe("alpha"), probe("beta"), probe("gamma")))


if __name__ == "__main__":
    asyncio.run(main())
    for batch in batches(count=10):
        if batch[0] > 8:  # enough: leaving the loop early is a normal end
            break
    del batch
    for record in open_store().runs(limit=4):
        print(record, dict(record.config))
