"""The least severity that is logged, and how it is changed while the node runs."""

from pathlib import Path
from signal import SIGINT

import httpx

from tests.cli.program import serving_alone


def test_the_level_can_be_changed_at_run_time(tmp_path: Path) -> None:
    """PUT /-/log-level takes effect at once; what is no level is refused and changes nothing."""
    with serving_alone("--log-level", "error", directory=tmp_path) as node:
        url = node.url + "/-/log-level"
        assert node.wait_answer(200, "/-/log-level").text == "error\n"
        assert node.said == ""
        for nonsense in ("", "loud", "info debug", "\xff\n", "20", "CRITICAL"):
            refused = httpx.put(url, json={"level": nonsense})
            assert refused.status_code == 400
            assert "use one of debug, info, warning, error" in refused.json()["detail"]
        for malformed in ("debug", {}, {"level": 20}, {"level": "debug", "for": 1}):
            refused = httpx.put(url, json=malformed)
            assert refused.status_code == 400
            assert refused.json()["detail"] == 'Name the level as {"level": "debug"}'
        assert httpx.get(url).text == "error\n"
        changed = httpx.put(url, json={"level": "INFO"})
        assert (changed.status_code, changed.text) == (200, "info\n")
        assert httpx.get(url).text == "info\n"
        node.wait_said("WARNING .*: log level set to info")
        assert node.end(SIGINT) == 0
        assert "INFO raftkv_trio.server: node 1 is stopping" in node.said


def test_no_other_put_of_an_operator_is_known(tmp_path: Path) -> None:
    """Any other PUT under /-/ is forbidden, since keys of that name are reserved."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        for path in ("/-/status", "/-/none", "/-/log-level/", "/-/"):
            assert httpx.put(node.url + path, content=b"debug").status_code == 403
