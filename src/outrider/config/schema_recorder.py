"""Settings of the recorder."""

from pathlib import Path

from pydantic import Field

from outrider.config.section import Section


class Recorder(Section):
    """Requests and answers, written down in clear text: for development alone."""

    folder: Path | None = Field(
        default=None, description="Where a file is written for every exchange. None: nothing is recorded."
    )
