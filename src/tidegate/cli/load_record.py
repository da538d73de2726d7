"""What a load was answered, as recorded requests: for `tidegate judge replay`."""

from collections.abc import Iterable
from pathlib import Path

from tidegate.judge.record import Record
from tidegate.judge.recorded import write as line_of
from tidegate.load.result import Result

BAD_GATEWAY = 502
TIMEOUT = 504


def write(path: Path, results: Iterable[Result], began: float) -> None:
    """Write results as lines, in the order of their starts.

    Args:
        path: The file; what was there is gone.
        results: In any order. Those that were never sent are left out.
        began: When the client's clock was 0, in seconds since the epoch.

    """
    sent = sorted(
        (each for each in results if each.error != "overload"), key=lambda each: each.started_at
    )
    with path.open("wb") as file:
        file.writelines(line_of(_record(each, began)) for each in sent)


def _record(result: Result, began: float) -> Record:
    return Record(
        started_at=began + result.started_at,
        duration_s=result.duration_s,
        status=result.status or (TIMEOUT if result.error == "timeout" else BAD_GATEWAY),
        broken=bool(result.status) and result.error not in ("", "status"),
        ttft_s=result.ttft_s,
        streamed=result.events > 0,
        events=result.events,
        itl_sum_s=sum(result.gaps_s),
        session=result.session + 1,  # 0 is nobody
        prompt_tokens=result.prompt_tokens,
        cached_tokens=result.cached_tokens,
        output_tokens=result.output_tokens,
        endpoint=result.endpoint or "-",
    )
