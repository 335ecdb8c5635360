"""Where the bundled corpora lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
XTTS = SAMPLES / "deepdialogue-xtts"
DOCUMENTED = SAMPLES / "deepdialogue-documented"
SAMPLE_OF = {
    "deepdialogue_ttt": XTTS,
    "multidialog_ttt": SAMPLES / "multidialog",
    "instructs2s_ttt": SAMPLES / "instructs2s-200k",
    "dailytalk_usdm": SAMPLES / "dailytalk",
    "omni_tasks": SAMPLES / "hub",
    "audio_table": SAMPLES / "table",
    "chat_json": SAMPLES / "chats",
    "lhotse_cuts": SAMPLES / "cuts",
    "nemo_manifest": SAMPLES / "nemo",
}
# What a builder brings where its corpus has it, and its sample has not.
LACKS = {"audio_table": {"codes"}}
