"""What a user reads: the numbers of a network before training, in a terminal, as pictures, as a page, as JSON.

`contents` gathers, `signals`, `gradients`, `tangent_kernel`, `finite_width` and `advice` compute what the report says (from the
flow, and nothing else); `text`, `pictures` and `page` show it. Drawing libraries are imported when something is drawn.
"""

from finitewidth.report.contents import Report, report

__all__ = ["Report", "report"]
