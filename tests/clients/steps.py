"""What a client's test prints: a line for each step that it has gone through.

The test's arguments are host, port, user and catalog. A step that fails ends the test with an error.
"""

import sys
import threading
import time

HOST, PORT, USER, CATALOG = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
URI = f"postgresql://{USER}@{HOST}:{PORT}/{CATALOG}"
# A query that runs until it is cancelled.
LONG = "SELECT count(*) FROM generate_series(1, 100000000000) AS g(n) WHERE n % 3 = 5"


def done(step):
    print(step, flush=True)


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def soon(action, seconds=1.0):
    """Runs `action` beside the caller, in a moment."""
    thread = threading.Thread(target=lambda: (time.sleep(seconds), action()), daemon=True)
    thread.start()
    return thread
