"""`/-/log-level`: the least severity that this process logs, and how it is changed while the node runs.

The log itself says which level counts, also if that is `error`: without that line silence would be taken for
health. Whoever reaches the port can change the level, so there is at most one such line a second. After many
changes the last line still names the level that counts.
"""

import logging
from math import inf

import trio
from quart_trio import QuartTrio

from raftkv_trio.errors import ConfigError, MalformedRequest
from raftkv_trio.logs import log_level, set_log_level
from raftkv_trio.rest.operators.documents import Response, problem, read_json, text

logger = logging.getLogger(__name__)

LINE_INTERVAL_S = 1.0


def add_log_level_routes(app: QuartTrio) -> None:
    """Add the routes to `app`."""
    lines = _LevelLines()

    @app.get("/-/log-level")
    async def see_log_level() -> Response:
        """The log level of this process."""
        return text(log_level())

    @app.put("/-/log-level")
    async def change_log_level() -> Response:
        """Change the level to that of `{"level": "debug"}`, until the process ends."""
        match await read_json(otherwise := 'Name the level as {"level": "debug"}'):
            case {"level": str(level), **more} if not more:
                try:
                    set_log_level(level)
                except ConfigError as error:
                    return problem(400, str(error))
                changed = log_level()
            case _:
                raise MalformedRequest(otherwise)
        await lines.tell()
        return text(changed)


class _LevelLines:
    """The lines of log that name the level: one for each change, but one a second at most."""

    def __init__(self) -> None:
        self._told = log_level()
        self._quiet_until = -inf
        self._has_teller = False

    async def tell(self) -> None:
        """Log the level if the last line names another one, at once or when the next line may come.

        A cancellation is held up until then, for `LINE_INTERVAL_S` at most: a client that hangs up must not
        keep the line from the log.
        """
        if self._has_teller:  # it will name the level that counts then
            return
        self._has_teller = True
        with trio.CancelScope(shield=True):
            await trio.sleep_until(self._quiet_until)
        self._has_teller = False
        level = log_level()
        if level == self._told:
            return
        self._told = level
        self._quiet_until = trio.current_time() + LINE_INTERVAL_S
        # Past the level itself, which may be `error` from now on.
        what = f"log level set to {level}"
        logger.handle(logger.makeRecord(logger.name, logging.WARNING, __file__, 0, what, (), None))
