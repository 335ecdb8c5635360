"""`python -m speechrows`: the command line."""

import sys

from speechrows.cli import main

sys.exit(main())
