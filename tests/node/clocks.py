"""A clock for tests of a node's parts that run without tasks."""


class StillClock:
    """Time that passes when the test adds to `now_s`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def real_now(self) -> float:
        return self.now()

    async def sleep_until(self, deadline: float) -> None:
        raise NotImplementedError("nothing here waits")
