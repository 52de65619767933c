"""WebShop as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, ClassVar

from stepagent_envs.core import MAX_ACTION_LENGTH, Outcome, TextEnv
from stepagent_envs.errors import TaskError, did_you_mean
from stepagent_envs.tasks import Task, TaskSet
from stepagent_envs.webshop.engine import Shop, Turn
from stepagent_envs.webshop.expert import Memory, oracle_action, shopper_action
from stepagent_envs.webshop.original import Original
from stepagent_envs.webshop.pages import MODES
from stepagent_envs.webshop.reward import Goal
from stepagent_envs.webshop.state import State
from stepagent_envs.webshop.stores import open_catalogue
from stepagent_envs.webshop.tasksets import ShopTasks
from stepagent_envs.webshop.wishes import suggested_queries

__all__ = ["WebShopEnv"]

_tasks: dict[int, ShopTasks] = {}
"""By catalogue, so that many environments of a process share one table."""


class WebShopEnv(TextEnv):
    """Buy the product that an instruction asks for, in a web shop with a search engine.

    See docs/environments/webshop.md for pages, actions, reward, splits and the differences from the original.

    Args:
        observation_mode: `"text"` (parts joined by " [SEP] "), `"text_rich"` (a line each, buttons marked), `"html"`.
        show_attributes: item pages offer the sub-page Attributes, which lists what the reward looks for.
        backend: `"text"`, or `"browser"`: the same shop as a web site, driven in Chromium by selenium.
        browser_binary, browser_driver, headless: see `browser.BrowserSettings`.
        others: see `TextEnv`. `data` also takes `"builtin:<products>"` and `"builtin:<products>:<seed>"`.
    """

    world: ClassVar[str] = "webshop"
    env_id: ClassVar[str] = "StepAgent-WebShop-v0"
    experts: ClassVar[tuple[str, ...]] = ("shopper", "oracle")
    step_limit: ClassVar[int] = 15

    def __init__(
        self,
        *,
        observation_mode: str = "text",
        show_attributes: bool = False,
        backend: str = "text",
        browser_binary: str | None = None,
        browser_driver: str | None = None,
        headless: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if backend not in ("text", "browser"):
            raise TaskError(f"backend must be 'text' or 'browser', got {backend!r}")
        if backend == "browser" and (self.compat or observation_mode == "html"):
            raise TaskError("backend='browser' shows our own pages, as text or text_rich: leave out compat and html")
        if observation_mode not in MODES:
            raise TaskError(
                f"webshop has no observation mode {observation_mode!r}; {did_you_mean(observation_mode, MODES)}"
            )
        self.settings |= {"observation_mode": observation_mode, "show_attributes": show_attributes}
        catalogue = open_catalogue(self.data)
        if id(catalogue) not in _tasks:
            _tasks[id(catalogue)] = ShopTasks(catalogue)
        self._shop_tasks = _tasks[id(catalogue)]
        kind = Original if self.compat == "original" else Shop
        self._shop: Shop = kind(catalogue, mode=observation_mode, show_attributes=show_attributes)
        if backend == "browser":
            from stepagent_envs.webshop.browser import BrowserSettings, BrowserShop

            settings = BrowserSettings(browser_binary, browser_driver, headless)
            self._shop = BrowserShop(self._shop, self._shop_tasks, settings)
        self._goal_now: Goal | None = None
        self._state: State = self._shop.start()
        self._memory = Memory()

    @property
    def data_hash(self) -> str:
        """Content hash of the product store."""
        return self._shop_tasks.catalogue.info.hash

    @property
    def shop(self) -> Shop:
        """The shop behind the environment."""
        return self._shop

    def close(self) -> None:
        """Close the browser, where there is one."""
        closing = getattr(self._shop, "close", None)
        if closing is not None:
            closing()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits of the data in use, without `"all"`."""
        return self._shop_tasks.names

    def tasks(self, split: str) -> TaskSet:
        """The tasks of a split in frozen order; see the docs page for the names."""
        return self._shop_tasks.split(split)

    def _default_step_limit(self, task: Task) -> int:
        return self.step_limit

    def _start(self, task: Task) -> Outcome:
        self._enter(task)
        self._state = self._shop.start()
        self._memory = Memory()
        return self._outcome_of(Turn(self._state))

    def _enter(self, task: Task) -> None:
        self._goal_now = self._shop_tasks.goal(task.id)
        if isinstance(self._shop, Original):
            self._shop.session_id = task.id.rpartition("-")[2]

    @property
    def _wanted(self) -> Goal:
        assert self._goal_now is not None
        return self._goal_now

    def _apply(self, action: str) -> Outcome:
        if len(action) > MAX_ACTION_LENGTH:
            turn = Turn(self._state, f"an action has at most {MAX_ACTION_LENGTH} characters, this one {len(action)}")
        else:
            turn = self._shop.act(self._state, action, self._wanted)
        self._state = turn.state
        self._memory = self._memory.after(turn.state.view)
        return self._outcome_of(turn)

    def _outcome_of(self, turn: Turn) -> Outcome:
        state = turn.state
        session_id = self._shop.session_id if isinstance(self._shop, Original) else "0"
        extra: dict[str, Any] = {
            "page": state.view.kind,
            "chosen_options": dict(state.view.session.options),
            "open_actions": ["search[{}]"] if self._shop.has_search_box(state) else [],
        }
        reward = turn.reward.value if turn.reward else 0.0
        if turn.reward:
            extra["reward_parts"] = turn.reward.parts
        return Outcome(
            self._shop.observe(state, self._wanted, session_id),
            score=reward,
            raw_score=reward,
            success=turn.reward is not None and reward == 1.0,
            ended=turn.reward is not None,
            error=turn.error,
            extra=extra,
        )

    def _goal(self) -> str:
        return self._wanted.instruction

    def _admissible(self) -> list[str]:
        if self._state.view.kind == "search":
            return [f"search[{query}]" for query in suggested_queries(self._wanted.instruction)]
        return [f"click[{text}]" for text in self._shop.clickables(self._state)]

    def _expert(self, name: str) -> str | None:
        if name == "oracle":
            return oracle_action(self._shop, self._state, self._wanted)
        left = self._limit - self._steps
        return shopper_action(self._shop, self._state, self._wanted.instruction, self._memory, left)

    def _state_key(self) -> str:
        return self._state.key(with_seen=self._shop.mode == "text_rich")

    def _save(self) -> Any:
        return self._state, self._memory

    def _load(self, task: Task, state: Any) -> None:
        self._enter(task)
        self._state, self._memory = state
