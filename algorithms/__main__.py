"""`python -m algorithms` is `stepagent train`; launchers want a module: `accelerate launch -m algorithms sft …`."""

import sys

from algorithms.cli import main

sys.exit(main())
