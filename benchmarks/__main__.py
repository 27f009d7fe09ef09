"""Run the benchmarks: ``python -m benchmarks [NAME…]``."""

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator

from benchmarks import asking, fleet, limits, propagation, proxy, registry, registry_scale, rendering, sidecar
from benchmarks.figures import machine

BENCHMARKS = {
    "asking": asking.run,
    "fleet": fleet.run,
    "limits": limits.run,
    "propagation": propagation.run,
    "proxy": proxy.run,
    "registry": registry.run,
    "registry-scale": registry_scale.run,
    "rendering": rendering.run,
    "sidecar": sidecar.run,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    print(machine())
    for name in names:
        print(f"\n{name}")
        asyncio.run(_print(BENCHMARKS[name]()))
    return 0


async def _print(lines: AsyncIterator[str]) -> None:
    """Each line as soon as it is known: some benchmarks take minutes."""
    async for text in lines:
        print(textwrap.indent(text, "  "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
