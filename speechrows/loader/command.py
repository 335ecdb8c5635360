"""`speechrows stats` of a mix, and of how full sequences are."""

import json
from argparse import Namespace
from dataclasses import asdict

from speechrows.errors import printable
from speechrows.loader import fill
from speechrows.loader import mix_stats
from speechrows.mix.values import is_mix


def run(options: Namespace) -> int:
    """Print what the epochs of a mix hold, or how full sequences of a folder are."""
    path, context, mode = options.folder, options.context, options.mode
    if is_mix(path):
        stages = mix_stats.mix_stats(path, context=context, mode=mode)
        text = json.dumps(mix_stats.to_json(stages), indent=1) if options.json else mix_stats.to_text(stages)
    else:
        fills = fill.fills(path, context=context, mode=mode)
        table = json.dumps([asdict(entry) for entry in fills], indent=1)
        text = table if options.json else fill.to_text(fills, context, mode)
    print(printable(text))
    return 0
