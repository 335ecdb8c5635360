"""Whether what is trained is learnt: each experiment says what was reached, and by chance would be.

    python benchmarks/learning.py EXPERIMENT [--quick] [--json FILE] [--picture FILE] [--work DIR]

recall-tokens: a TTT layer has to carry a value from a step to the next, over random tokens.
recall-speech: the same end to end: a corpus whose later turns ask for a sound of turn 0, `speechrows build`,
    train.py, and conversations that were held out, by the distance in turns.
grammar: spoken commands are transcribed: combinations of words, voices and rates that were never heard.
codec: codes that follow from the audio by a rule are said from what is heard.
plain-loop: train.py beside a loop of torch and transformers alone: the same losses, step by step.

`--quick` takes some two minutes of a core at most, the whole from half a minute to thirteen: docs/learning.md
has what was measured.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from machine import announce

SECONDS = {  # of the whole, and of --quick, on an idle core
    "recall-tokens": (50, 20),
    "recall-speech": (780, 110),
    "grammar": (330, 115),
    "codec": (360, 100),
    "plain-loop": (20, 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=SECONDS)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where its picture goes, if it has one")
    parser.add_argument(
        "--work", type=Path, default=HERE / ".work/learning", help="where corpora and runs go"
    )
    options = parser.parse_args()
    experiment: Any = importlib.import_module(f"learn.{options.experiment.replace('-', '_')}")
    announce(SECONDS[options.experiment][options.quick])
    started = time.perf_counter()
    figures: dict[str, Any] = experiment.run(quick=options.quick, work=options.work)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if options.picture:
        experiment.chart(figures).save(options.picture)


if __name__ == "__main__":
    main()
