"""Whether what is trained is learnt: each experiment says what was reached, and by chance would be.

    python benchmarks/learning.py recall-tokens [--quick] [--json FILE]
    python benchmarks/learning.py recall-speech [--quick] [--json FILE] [--work DIR]

recall-tokens: a TTT layer has to carry a value from a step to the next, over random tokens.
recall-speech: the same end to end: a corpus whose later turns ask for a sound of turn 0, `speechrows build`,
train.py, and conversations that were held out, by the distance in turns.

`--quick` takes under two minutes on two cores, the whole some ten.
"""

import argparse
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

EXPERIMENTS = ("recall-tokens", "recall-speech")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, too")
    parser.add_argument(
        "--work", type=Path, default=HERE / ".work/learning", help="where corpora and runs go"
    )
    options = parser.parse_args()
    if options.experiment == "recall-tokens":
        from learn.recall_tokens import run
    else:
        from learn.recall_speech import run
    started = time.perf_counter()
    figures = run(quick=options.quick, work=options.work)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
