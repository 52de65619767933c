"""`python -m leaderboard` is `stepagent leaderboard`."""

import sys

from leaderboard.cli import main

if __name__ == "__main__":
    sys.exit(main(["leaderboard", *sys.argv[1:]]))
