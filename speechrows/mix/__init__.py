"""Mixes of data sets as values: what a mix.yaml says, and how many rows of each source an epoch has."""

from speechrows.mix.reading import parse_mix as parse_mix
from speechrows.mix.reading import read_mix as read_mix
from speechrows.mix.values import Defaults as Defaults
from speechrows.mix.values import Mix as Mix
from speechrows.mix.values import Source as Source
from speechrows.mix.values import Stage as Stage
