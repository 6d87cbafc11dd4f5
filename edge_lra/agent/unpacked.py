"""Answer "unpacked": what loading takes when onnxruntime keeps no prepacked copies of weights.

Request: bundles (one), threads. Answer: anonymous_mib, the growth of anonymous memory from before
the load to after it. The same growth with prepacking is larger by the copies: kernels keep
weights in their own order beside the mapped ones. onnxruntime's own count of its arena agrees
within 0.1 MiB on MiniLM, but only its newer versions give one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.agent.imports import import_runner
from edge_lra.agent.memory import split

DISABLE = "session.disable_prepacking"


def measure_unpacked(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load the bundle without prepacking; anonymous_mib is None where memory is not told apart.

    Raises:
        EdgeError: the graph does not load this way.
    """
    import_runner()
    from edge_lra.agent.inputs import open_session, session_options

    folder = Path(request["bundles"][0])
    before = split()
    options = session_options(folder, int(request["threads"]))
    options.add_session_config_entry(DISABLE, "1")
    session = open_session(folder, options)
    after = split()
    del session
    if before is None or after is None:
        return {"anonymous_mib": None}
    return {"anonymous_mib": after.anonymous_mib - before.anonymous_mib}
