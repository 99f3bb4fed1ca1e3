"""The process of one contestant: builds a step, then takes steps on request.

    python -m benchmarks.worker CONTESTANT NETWORK train|evaluate DTYPE BATCH

For each line "N" on standard input takes N steps and prints a JSON object: wall seconds of each
step, and processor seconds of all. Imports only the contestant, so that another Python can run it.
"""

import importlib
import json
import os
import resource
import sys
import time

CONTESTANTS = {
    "ours": "benchmarks.ours",
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
    step = module.build(network, mode, dtype, int(batch), compiled=contestant.endswith("compiled"))
    began = time.perf_counter()
    step()  # compiles
    first = time.perf_counter() - began
    print(json.dumps({"import": imported, "first_step": first}), file=answers, flush=True)
    for line in sys.stdin:
        before, seconds = processor_seconds(), []
        for _ in range(int(line)):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        answer = {"seconds": seconds, "processor_seconds": processor_seconds() - before}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
