"""``python -m persona_interp`` is the command ``persona-interp``."""

from __future__ import annotations

import sys

from persona_interp.cli import main

if __name__ == "__main__":
    sys.exit(main())
