"""Work on many images in threads, in order and with bounded memory."""

import collections
import concurrent.futures
import os

_AHEAD = 4  # Results waiting for each thread.


def map_in_threads(function, items):
    """Call a function for each item, a few items ahead.

    Args:
        function: function of an item.
        items: iterable.

    Yields:
        The results, in order.
    """
    threads = min(16, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        ahead = collections.deque()
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > _AHEAD * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
