"""Cuts as lhotse has them, in manifests, in SHAR, or as recordings with supervisions, as dialogues."""

from speechrows.corpora.cuts.dialogues import CutMaker
from speechrows.corpora.cuts.files import CutRun
from speechrows.corpora.cuts.files import CutStream
from speechrows.corpora.cuts.files import list_cuts
from speechrows.corpora.cuts.records import CutError
from speechrows.corpora.cuts.records import parse_cut

__all__ = ["CutError", "CutMaker", "CutRun", "CutStream", "list_cuts", "parse_cut"]
