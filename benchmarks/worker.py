"""The process of one contestant: builds a step, then takes steps on request.

    python -m benchmarks.worker CONTESTANT NETWORK train|evaluate DTYPE BATCH

For each line "N" on standard input takes at least N steps in a row, waits for the last and prints a
JSON object: the number of steps, their wall seconds and their processor seconds. Imports only the
contestant, so that another Python can run it.
"""

import importlib
import json
import os
import resource
import sys
import time

CONTESTANTS = {
    "ours": "benchmarks.ours",
    "ours_together": "benchmarks.ours",
    "ours_formulated": "benchmarks.ours",
    "ours_xla": "benchmarks.ours",
    "flax": "benchmarks.plain_flax",
    "torch": "benchmarks.plain_torch",
    "torch_compiled": "benchmarks.plain_torch",
}


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    contestant, network, mode, dtype, batch = sys.argv[1:]
    # Standard output is for the answers; what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    began = time.perf_counter()
    module = importlib.import_module(CONTESTANTS[contestant])
    imported = time.perf_counter() - began
    run = module.build(network, mode, dtype, int(batch), contestant.partition("_")[2])
    began = time.perf_counter()
    run(1)  # compiles
    first = time.perf_counter() - began
    told = {"import": imported, "first_step": first, "versions": module.versions()}
    print(json.dumps(told), file=answers, flush=True)
    for line in sys.stdin:
        before, began = processor_seconds(), time.perf_counter()
        steps = run(int(line))
        seconds = time.perf_counter() - began
        answer = {"steps": steps, "seconds": seconds, "processor": processor_seconds() - before}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
