"""Commands that ask a cluster one thing about users or roles, and print the answer."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from raftkv_trio.cli.keys.asking import ask_one, key_command

if TYPE_CHECKING:
    from raftkv_trio.client.etcd.messages import UnaryMethod
    from raftkv_trio.tls.clients import Trust


class Question(NamedTuple):
    """What is asked.

    Attributes:
        told: what is printed as simple text, or what makes that of the answer.
    """

    method: "UnaryMethod[Any, Any]"
    request: Any
    told: str | Callable[[Any], bytes]


def question_command(
    name: str, parameters: list[click.Parameter], question: Callable[..., Question]
) -> click.Command:
    """A command with these parameters, of which `question` makes what is asked; its text is the help."""

    @wraps(question)
    def ask(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **values: Any) -> int:
        method, request, told = question(**values)
        answer = ask_one(endpoints, trust, timeout, method, request)
        print_answer(answer, write_out, told.encode() if isinstance(told, str) else told(answer))
        return 0

    return key_command(name, parameters, ask)


def print_answer(answer: Any, write_out: str, simple: bytes) -> None:
    """Print an answer, or this if it is wanted as simple text."""
    from raftkv_trio.cli.auth.outputs import auth_text

    click.echo(auth_text(answer, write_out, simple), nl=False)
