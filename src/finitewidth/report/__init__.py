"""What a user reads: the numbers of a network before training, in a terminal, as pictures, as a page, as JSON.

`contents` gathers; `signals`, `gradients`, `tangent_kernel`, `finite_width` and `advice` compute what the report
says, from the flow and nothing else; `rows` puts it in words; `text`, `pictures` and `page` show it. Nothing is
imported before it is needed: a command that prints a table does not wait for the flow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finitewidth.report.contents import Report as Report
    from finitewidth.report.contents import report as report

__all__ = ["Report", "report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from finitewidth.report import contents

    return getattr(contents, name)
