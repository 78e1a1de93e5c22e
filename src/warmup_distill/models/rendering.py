"""A program of its own that renders a chat template and prints how many characters it makes.

`limits` starts it. It knows nothing of this package or of transformers, whose import takes
seconds, and holds itself to limits before it looks at the template.
"""

import datetime
import json
import sys
from typing import Any

TOO_LARGE = 3
"""Exit code: the template needs more memory than it may have."""


def main() -> None:
    request = json.load(sys.stdin)
    _hold(request["seconds"], request["memory"])
    sys.path[:] = request["path"]
    try:
        longest = max(_length(request["template"], one) for one in request["questions"])
    except MemoryError:
        sys.exit(TOO_LARGE)
    print(longest)  # noqa: T201


def _length(template: str, question: dict[str, Any]) -> int:
    """Characters of a rendering, none where the template fails by itself."""
    try:
        return len(render(template, question))
    except MemoryError:
        raise
    except Exception:  # a template is a program: it can raise anything
        return 0


def _hold(seconds: int, memory: int) -> None:
    """Limits of the system, which hold in C and when nobody waits for us any more."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def render(template: str, variables: dict[str, Any]) -> str:
    """As `transformers.utils.chat_template_utils` does; a test holds the two together."""
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """The tag that marks what an assistant says."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(template).render(**variables)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


if __name__ == "__main__":
    main()
