"""The leaderboard: frozen benchmarks, a runner that resumes, statistics, reports, and a referee that replays.

    python -m leaderboard run --benchmark quick-v1 --agent random
    python -m leaderboard report runs/leaderboard/quick-v1

Importing this package loads nothing heavy, and none of it needs torch.
"""
