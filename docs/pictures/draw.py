"""Draws the pictures of these documents as SVG. Usage: python docs/pictures/draw.py

Standard library only. The pictures are committed beside this file; `tests/test_documents.py` draws them again
and compares, so change them here and run this. Each has a background of its own, and follows the reader's
light or dark scheme.
"""

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"
Colours = dict[str, tuple[str, str] | str]
LIGHT: Colours = {
    "card": ("#ffffff", "#d0d7de"),
    "panel": ("#f6f8fa", "#afb8c1"),
    "box": ("#ffffff", "#8c959f"),
    "core": ("#ddf4ff", "#0969da"),
    "disk": ("#fff8c5", "#9a6700"),
    "text": "#1f2328",
    "quiet": "#59636e",
    "line": "#57606a",
    "badge": "#0969da",
}
DARK: Colours = {
    "card": ("#0d1117", "#3d444d"),
    "panel": ("#151b23", "#656c76"),
    "box": ("#0d1117", "#656c76"),
    "core": ("#0c2547", "#4493f8"),
    "disk": ("#2e2a1a", "#bb8009"),
    "text": "#f0f6fc",
    "quiet": "#9198a1",
    "line": "#9198a1",
    "badge": "#1f6feb",
}


class Box(NamedTuple):
    """A rectangle, by its corner and size in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def center_x(self) -> float:
        return self.x + self.width / 2

    @property
    def center_y(self) -> float:
        return self.y + self.height / 2


class Picture:
    """An SVG that is being drawn; what comes later covers what came before."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = width, height
        self._title = title
        self._parts: list[str] = []
        self._rectangle(Box(0.5, 0.5, width - 1, height - 1), "card", radius=10)

    def panel(self, box: Box, title: str, *, note: str = "") -> Box:
        """A box around others, with its title inside at the top left."""
        self._rectangle(box, "panel", radius=8)
        self.text(box.x + 14, box.y + 23, title, bold=True, anchor="start")
        if note:
            self.text(box.x + 14, box.y + 41, note, quiet=True, size=12, anchor="start")
        return box

    def box(self, box: Box, title: str, *lines: str, style: str = "box", dashed: bool = False) -> Box:
        """A box with a title and smaller lines, centred."""
        self._rectangle(box, style, radius=6, dashed=dashed)
        y = box.center_y - 8 * len(lines) + 5
        self.text(box.center_x, y, title, bold=True)
        for number, line in enumerate(lines, start=1):
            self.text(box.center_x, y + 17 * number, line, quiet=True, size=12)
        return box

    def arrow(self, *points: tuple[float, float], both: bool = False, dashed: bool = False) -> None:
        """A line through these points, with a head at its end, or at both."""
        path = "M" + " L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        start = ' marker-start="url(#head)"' if both else ""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<path class="line" d="{path}"{dash}{start} marker-end="url(#head)"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A dashed line without a head."""
        self._parts.append(
            f'<path class="line" d="M{_number(x1)} {_number(y1)} L{_number(x2)} {_number(y2)}"'
            ' stroke-dasharray="3 5"/>'
        )

    def bar(self, x: float, top: float, bottom: float, style: str = "box") -> None:
        """A narrow box around `x`: something is at work from `top` to `bottom`."""
        self._rectangle(Box(x - 7, top, 14, bottom - top), style, radius=3)

    def badge(self, x: float, y: float, number: int) -> None:
        """A number in a disc."""
        self._parts.append(f'<circle class="badge" cx="{_number(x)}" cy="{_number(y)}" r="10"/>')
        self._parts.append(
            f'<text class="on-badge" x="{_number(x)}" y="{_number(y + 4)}" font-size="12"'
            f' font-weight="600" text-anchor="middle">{number}</text>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        bold: bool = False,
        quiet: bool = False,
        size: int = 14,
        anchor: str = "middle",
        covers: bool = False,
    ) -> None:
        """A line of text whose baseline is at `y`; it may have a margin that covers the lines behind it."""
        weight = ' font-weight="600"' if bold else ""
        style = ("quiet" if quiet else "text") + (" covers" if covers else "")
        self._parts.append(
            f'<text class="{style}" x="{_number(x)}" y="{_number(y)}"'
            f' font-size="{size}"{weight} text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self) -> str:
        """The whole file."""
        width, height = self._size
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
                f' height="{height}" font-family="{FONT}" role="img">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{_css(LIGHT)} @media (prefers-color-scheme: dark) {{{_css(DARK)}}}</style>",
                '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
                ' markerHeight="7" orient="auto-start-reverse"><path class="head" d="M0 0 L10 5 L0 10 z"/>'
                "</marker></defs>",
                *self._parts,
                "</svg>\n",
            ]
        )

    def _rectangle(self, box: Box, style: str, *, radius: int, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        x, y, width, height = map(_number, box)
        self._parts.append(
            f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}"{dash}/>'
        )


def _number(value: float) -> str:
    return f"{value:g}"


def _css(colours: Colours) -> str:
    rules = []
    for name, colour in colours.items():
        if isinstance(colour, tuple):
            rules.append(f".{name} {{fill: {colour[0]}; stroke: {colour[1]}}}")
            if name == "card":
                rules.append(f".covers {{stroke: {colour[0]}; stroke-width: 5; paint-order: stroke}}")
        elif name == "line":
            rules.append(
                f".line {{fill: none; stroke: {colour}; stroke-width: 1.5}} .head {{fill: {colour}}}"
            )
        else:
            rules.append(f".{name} {{fill: {colour}}}")
    return " ".join([*rules, ".on-badge {fill: #ffffff}"])


def write() -> Picture:
    """One write, through the parts of a node."""
    picture = Picture(1000, 580, "One write through a node: from PUT to 204")
    picture.panel(Box(176, 20, 620, 404), "one node, the leader")
    client = picture.box(Box(20, 72, 110, 66), "client", "curl -XPUT")
    rest = picture.box(Box(200, 72, 150, 66), "rest/", "makes a txn of it")
    applier = picture.box(Box(200, 204, 150, 66), "applier", "node/applier.py")
    store = picture.box(Box(200, 334, 150, 66), "kv/", "the store")
    driver = picture.panel(Box(408, 72, 190, 198), "driver", note="one task, turn by turn")
    picture.box(Box(426, 134, 154, 114), "raft/", "the core: no I/O,", "no clock, no trio", style="core")
    log = picture.box(Box(408, 334, 190, 66), "log writer", "one write, one fdatasync", style="disk")
    peers = picture.box(Box(656, 128, 120, 86), "peers/", "an outbox", "for each peer")
    follower_2 = picture.box(Box(858, 82, 122, 66), "follower", "log, fdatasync", style="disk")
    follower_3 = picture.box(Box(858, 194, 122, 66), "follower", "log, fdatasync", style="disk")

    picture.arrow((client.right, 92), (rest.x, 92))
    picture.arrow((rest.x, 118), (client.right, 118))
    picture.arrow((rest.right, 105), (driver.x, 105))
    picture.arrow((458, driver.bottom), (458, log.y))
    picture.arrow((548, log.y), (548, driver.bottom))
    picture.arrow((driver.right, 154), (peers.x, 154))
    picture.arrow((peers.x, 188), (driver.right, 188))
    picture.arrow((peers.right, 152), (follower_2.x, follower_2.center_y), both=True)
    picture.arrow((peers.right, 190), (follower_3.x, follower_3.center_y), both=True)
    picture.arrow((driver.x, applier.center_y), (applier.right, applier.center_y))
    picture.arrow((applier.center_x, applier.bottom), (applier.center_x, store.y))
    picture.arrow((applier.center_x, applier.y), (applier.center_x, rest.bottom))
    for x, y, number in (
        (153, 92, 1),
        (378, 105, 2),
        (458, 302, 3),
        (627, 154, 3),
        (548, 302, 4),
        (627, 188, 4),
        (379, applier.center_y, 5),
        (applier.center_x, 302, 6),
        (applier.center_x, 171, 7),
        (153, 118, 8),
    ):
        picture.badge(x, y, number)
    steps = (
        "PUT /key; the request target as sent is the key",
        "Node.submit: the txn as bytes",
        "at the same time: to the log, and to each follower",
        "'durable': from the log writer, and from followers",
        "durable on a quorum, so committed: commit stream",
        "applied, in the order of the log",
        "the waiting proposal gets the store's result",
        "204, and the revision as ETag",
    )
    for number, step in enumerate(steps, start=1):
        x, y = (36, 440 + 32 * number - 8) if number <= 4 else (530, 440 + 32 * (number - 4) - 8)
        picture.badge(x, y, number)
        picture.text(x + 20, y + 5, step, anchor="start")
    return picture


def write_in_time() -> Picture:
    """The same write, from top to bottom in time."""
    picture = Picture(1000, 650, "One write in time: who waits for whom")
    client, rest, applier, driver, log, follower = 74, 222, 388, 560, 730, 900
    for x, width, title, note in (
        (client, 108, "client", "curl -XPUT"),
        (rest, 148, "rest/", "the request's task"),
        (applier, 148, "applier", "one batch at a time"),
        (driver, 148, "driver", "with the core"),
        (log, 148, "log writer", "a worker thread"),
        (follower, 160, "follower", "driver and log writer"),
    ):
        picture.line(x, 76, x, 626)
        picture.box(Box(x - width / 2, 20, width, 56), title, note)

    def say(from_x: float, to_x: float, y: float, text: str) -> None:
        sign = 1 if to_x > from_x else -1
        picture.arrow((from_x + 9 * sign, y), (to_x - 9 * sign, y))
        picture.text(to_x - 18 * sign, y - 7, text, size=12, anchor=("start", "end")[sign == 1], covers=True)

    def remark(x: float, y: float, text: str, anchor: str = "start") -> None:
        picture.text(
            x + (16 if anchor == "start" else -16), y, text, quiet=True, size=12, anchor=anchor, covers=True
        )

    picture.bar(rest, 112, 600)
    picture.bar(driver, 160, 214, "core")
    picture.bar(log, 232, 344, "disk")
    picture.bar(follower, 264, 394, "disk")
    picture.bar(driver, 344, 362, "core")
    picture.bar(driver, 394, 450, "core")
    picture.bar(applier, 468, 560)
    picture.bar(driver, 560, 578, "core")
    say(client, rest, 112, "PUT /key")
    say(rest, driver, 160, "submit: waits for the driver's next turn")
    remark(driver, 188, "all that waits is proposed", "end")
    say(driver, log, 232, "STORAGE_APPEND")
    say(driver, follower, 264, "APP, at the same time")
    remark(log, 298, "one write,")
    remark(log, 314, "one fdatasync")
    say(log, driver, 344, "durable here")
    say(follower, driver, 394, "APP_RESP: durable there")
    remark(driver, 424, "a quorum has it", "end")
    say(driver, applier, 468, "commit stream")
    remark(applier, 498, "the store applies")
    say(applier, rest, 522, "settles the proposal")
    say(applier, driver, 560, "applied: next batch")
    say(rest, client, 600, "204")
    say(driver, follower, 600, "the commit index, with the next message")
    return picture


def tasks() -> Picture:
    """Who starts whom, and who hands what to whom."""
    picture = Picture(1000, 640, "The tasks of a server, and what they hand to each other")
    picture.panel(Box(16, 16, 968, 562), "serve", note="server.py: ends serve_http first, then run_node")
    picture.panel(Box(36, 78, 670, 482), "run_node", note="node/node.py")
    picture.panel(Box(56, 138, 190, 322), "peers", note="peers/peers.py")
    accept = picture.box(Box(72, 192, 158, 44), "accept")
    receiver = picture.box(Box(72, 252, 158, 56), "receiver", "one per connection")
    sender = picture.box(Box(72, 322, 158, 56), "sender", "one per peer")
    snapshot_sender = picture.box(Box(72, 392, 158, 56), "snapshot sender", "one per peer")
    picture.box(Box(56, 492, 190, 50), "removal", "ends a removed node")
    tick = picture.box(Box(310, 138, 180, 44), "tick", "every 100 ms")
    driver = picture.box(
        Box(310, 252, 180, 126), "driver", "the only task that", "touches the core", style="core"
    )
    log = picture.box(Box(310, 412, 180, 50), "log writer", "its own worker thread", style="disk")
    snapshotter = picture.box(Box(310, 492, 180, 50), "snapshotter", "bulk worker thread", style="disk")
    node = picture.box(Box(560, 252, 130, 70), "Node", "proposals, reads", dashed=True)
    applier = picture.box(Box(560, 412, 130, 50), "applier", "state machine")
    picture.panel(Box(726, 78, 238, 400), "serve_http", note="http/listener.py")
    listener = picture.box(Box(746, 138, 198, 44), "accept")
    connection = picture.box(
        Box(746, 252, 198, 70), "connection", "one per client: parses,", "keeps deadlines"
    )
    request = picture.box(Box(746, 412, 198, 50), "request", "one at a time")
    hub = picture.box(Box(726, 498, 114, 62), "WatchHub", "tells watches")
    picture.box(Box(850, 498, 114, 62), "Lessor", "ends leases")

    picture.arrow((accept.center_x, accept.bottom), (accept.center_x, receiver.y), dashed=True)
    picture.arrow((receiver.right, 280), (driver.x, 280))
    picture.text(278, 272, "inbox", size=12)
    picture.arrow((driver.x, 340), (sender.right, 340))
    picture.text(278, 332, "outbox", size=12)
    picture.arrow((driver.x, 366), (270, 366), (270, 420), (snapshot_sender.right, 420))
    picture.text(278, 410, "SNAP", size=12, anchor="start")
    picture.arrow((tick.center_x, tick.bottom), (tick.center_x, driver.y))
    picture.text(tick.center_x + 8, 222, "wakes it", size=12, anchor="start")
    picture.arrow((370, driver.bottom), (370, log.y))
    picture.arrow((430, log.y), (430, driver.bottom))
    picture.text(362, 400, "append", size=12, anchor="end")
    picture.text(438, 400, "durable", size=12, anchor="start")
    picture.arrow((snapshotter.center_x, snapshotter.y), (snapshotter.center_x, log.bottom))
    picture.text(snapshotter.center_x + 8, 482, "record", size=12, anchor="start")
    picture.arrow((node.x, 280), (driver.right, 280))
    picture.text(525, 272, "queued", size=12)
    picture.arrow((driver.right, 350), (528, 350), (528, 437), (applier.x, 437))
    picture.text(496, 342, "commits", size=12, anchor="start")
    picture.arrow((applier.center_x, applier.y), (applier.center_x, node.bottom))
    picture.text(applier.center_x - 8, 380, "settles", size=12, anchor="end")
    picture.arrow((applier.center_x, applier.bottom), (applier.center_x, 517), (snapshotter.right, 517))
    picture.text(557, 509, "chunks", size=12)
    picture.arrow((672, applier.bottom), (672, 535), (hub.x, 535))
    picture.text(664, 540, "applied", size=12, anchor="end")
    picture.arrow((listener.center_x, listener.bottom), (listener.center_x, connection.y), dashed=True)
    picture.arrow((connection.center_x, connection.bottom), (connection.center_x, request.y), dashed=True)
    picture.arrow((request.x, 437), (716, 437), (716, 287), (node.right, 287))
    key = ("panel: a nursery", "box: a task", "dashed box: the public handle, no task")
    picture.text(36, 612, " · ".join(key), anchor="start", size=12, quiet=True)
    picture.arrow((624, 608), (660, 608), dashed=True)
    picture.text(668, 612, "starts", anchor="start", size=12, quiet=True)
    picture.arrow((736, 608), (772, 608))
    picture.text(780, 612, "hands something to", anchor="start", size=12, quiet=True)
    return picture


PICTURES = {"write.svg": write, "write-in-time.svg": write_in_time, "tasks.svg": tasks}


def main() -> None:
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
