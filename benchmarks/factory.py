"""The factory killed half-way and begun again: requests asked twice, and whether its output is the same.

    python benchmarks/factory.py [--questions 1000] [--kills 1]

A server on this machine that adds numbers (an instrument, `tests/cot_factory/adding_server.py`) counts what it is
asked: four paths a question, sixteen requests in flight. The run is killed (SIGKILL) when half of them (more kills:
a third, ...) have come, begun again, and held against a run that nobody disturbed, byte for byte: release, repeats and
the queue's tasks. Written to build/bench/factory.json.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measuring import save
from cot_factory.run import factor
from tests.cot_factory.adding_server import AddingServer
from tests.cot_factory.runs import content, recipe

PATHS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=1)
    options = parser.parse_args()
    total = PATHS * options.questions
    server = AddingServer()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = recipe(folder, server.url, options.questions)
        command = [
            sys.executable,
            "-m",
            "keyeforge",
            "cot",
            "run",
            str(folder / "recipe.yaml"),
            "--out",
            scratch + "/killed",
        ]
        for kill in range(1, options.kills + 1):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                while len(server.asked) < total * kill // (options.kills + 1):
                    assert process.poll() is None, "the run ended before it was killed"
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        asked, repeated = len(server.asked), sum(server.asked.values()) - len(server.asked)
        factor(spec, folder / "whole")
        same = content(folder / "killed") == content(folder / "whole")
    server.close()
    print(f"{asked:,} requests, killed {options.kills} time(s): {repeated} asked twice ({repeated / asked:.2%})")
    print(f"output the same as that of a run that was not killed: {same}")
    save("factory", {"requests": asked, "kills": options.kills, "repeated": repeated, "same_output": same})


if __name__ == "__main__":
    main()
