"""A long campaign: ``python -m tests.fuzz.long --mutations 100000 --seed 0``; status 1 where there are faults."""

from __future__ import annotations

import argparse
import sys
import time

from .campaign import Outcome, campaign


def main() -> int:
    """Run a campaign and print its figures and the faults, each once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], metavar="TARGET", help="some readers only")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after these")
    args = parser.parse_args()
    begun = time.perf_counter()

    def progress(outcome: Outcome) -> None:
        seeds = ", ".join(f"{kind} (input {seed})" for kind, (_, seed, _) in outcome.faults.items())
        print(f"{outcome.n} inputs, faults: {seeds or 'none'}", file=sys.stderr, flush=True)

    outcome = campaign(args.mutations, args.seed, only=tuple(args.only), seconds=args.seconds, progress=progress)
    for kind, (count, seed, text) in sorted(outcome.faults.items()):
        print(f"\n--- {count} x {kind} (input {seed})\n{text}")
    print(f"{'reader':12}{'read':>8}{'refused':>9}")
    for name in sorted({*outcome.read, *outcome.refused}):
        print(f"{name:12}{outcome.read[name]:8}{outcome.refused[name]:9}")
    seconds = time.perf_counter() - begun
    print(f"{outcome.n} inputs in {seconds:.0f} s, faults of {len(outcome.faults)} kinds")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
