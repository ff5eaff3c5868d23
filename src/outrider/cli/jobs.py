"""`outrider jobs`: requests that are left with a sidecar, and what becomes of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson

from outrider import v1
from outrider.cli import attempts, units
from outrider.cli.answer import TextAnswer
from outrider.cli.command_error import CommandError
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.jobs_batch import follow, submit_batch
from outrider.cli.request import to_request
from outrider.cli.rpc_error import to_command_error
from outrider.cli.table import Styled, print_json, print_table
from outrider.cli.terminal import dim, one_line
from outrider.v1.job_service_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from outrider.cli.answer import Answer
    from outrider.cli.connection import Connection
    from outrider.cli.table import Cell

_COLUMNS = ("JOB", "STATE", "SUBMITTED (UTC)", "MODEL", "TRIES", "COST", "NOTE")
_NUMBERS = ("TRIES", "COST")
_COLOURS = {
    v1.JOB_STATE_COMPLETED: "green",
    v1.JOB_STATE_FAILED: "red",
    v1.JOB_STATE_EXPIRED: "red",
    v1.JOB_STATE_PROCESSING: "yellow",
}
_PAGE = 1_000
_TIMEOUT, _LONG_TIMEOUT = 30.0, 86_400.0
_SOON = 5.0


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked. Raises CommandError."""
    actions = {
        "submit": _submit,
        "get": _get,
        "watch": _watch,
        "result": _result,
        "cancel": _cancel,
        "list": _list,
        "batch": submit_batch,
        "follow": follow,
    }
    follows = arguments.action in ("watch", "follow") or any(
        getattr(arguments, name, False) for name in ("wait", "watch")
    )
    arguments.timeout = arguments.timeout or (_LONG_TIMEOUT if follows else _TIMEOUT)
    try:
        actions[arguments.action](arguments)
    except CommandError as error:
        if error.code == "UNIMPLEMENTED" and _is_sidecar(arguments):
            raise CommandError(
                f"the sidecar at {arguments.address} serves no jobs: its configuration has "
                "`jobs: {enabled: false}`, or it is older than this command",
                error.exit_code,
                error.code,
            ) from None
        raise
    return ExitCode.OK


def _is_sidecar(arguments: argparse.Namespace) -> bool:
    """Whether what serves no jobs serves the rest of the API."""
    from grpc_health.v1.health_pb2 import HealthCheckRequest
    from grpc_health.v1.health_pb2_grpc import HealthStub

    service = "outrider.v1.GenerationService"
    try:
        with connect(arguments) as sidecar:
            HealthStub(sidecar.channel).Check(HealthCheckRequest(service=service), timeout=_SOON)
    except CommandError:
        return False
    return True


def options_of(arguments: argparse.Namespace) -> v1.JobOptions:
    """The settings of jobs that were given."""
    priority = f"JOB_PRIORITY_{arguments.priority.upper()}" if arguments.priority else None
    options = v1.JobOptions(max_retries=arguments.max_retries, priority=priority)
    if arguments.ttl is not None:
        ttl = Duration()
        ttl.FromTimedelta(arguments.ttl)
        options.ttl.CopyFrom(ttl)
    return options


def _submit(arguments: argparse.Namespace) -> None:
    request = to_request(arguments)
    request.idempotency_key = arguments.key
    with connect(arguments) as sidecar:
        jobs = JobServiceStub(sidecar.channel)
        wanted = v1.SubmitJobRequest(request=request, options=options_of(arguments))
        response = jobs.SubmitJob(wanted, **sidecar.call)
        if arguments.wait:
            print(dim(f"job {one_line(response.job.job_id)}", sys.stderr), file=sys.stderr)
            _follow(sidecar, response.job.job_id, arguments)
        elif arguments.json:
            print_json(response)
        else:
            print(one_line(response.job.job_id))


def _get(arguments: argparse.Namespace) -> None:
    with connect(arguments) as sidecar:
        response = JobServiceStub(sidecar.channel).GetJob(
            v1.GetJobRequest(job_id=arguments.job_id), **sidecar.call
        )
    _show(response.job, response, as_json=arguments.json)


def _cancel(arguments: argparse.Namespace) -> None:
    with connect(arguments) as sidecar:
        response = JobServiceStub(sidecar.channel).CancelJob(
            v1.CancelJobRequest(job_id=arguments.job_id), **sidecar.call
        )
    _show(response.job, response, as_json=arguments.json)


def _result(arguments: argparse.Namespace) -> None:
    with connect(arguments) as sidecar:
        response = JobServiceStub(sidecar.channel).GetJobResult(
            v1.GetJobResultRequest(job_id=arguments.job_id), **sidecar.call
        )
    if arguments.json:
        print(MessageToJson(response, preserving_proto_field_name=True, indent=None))
        return
    answer = TextAnswer(reasoning=False)
    answer.show_whole(response.response)
    answer.end()


def _watch(arguments: argparse.Namespace) -> None:
    with connect(arguments) as sidecar:
        _follow(sidecar, arguments.job_id, arguments)


def _follow(sidecar: Connection, job_id: str, arguments: argparse.Namespace) -> None:
    """Show what comes. Raises CommandError, also where the job has no answer in the end."""
    call = JobServiceStub(sidecar.channel).WatchJob(v1.WatchJobRequest(job_id=job_id), **sidecar.call)
    answer: Answer = TextAnswer(reasoning=False)
    job = v1.Job()
    try:
        for response in call:
            if response.HasField("job"):
                job = response.job
            if arguments.json:
                print(MessageToJson(response, preserving_proto_field_name=True, indent=None), flush=True)
            elif response.HasField("generation"):
                answer.show(response.generation)
            elif response.HasField("restarted"):
                answer.end()
                print(dim("It broke off, and begins anew:", sys.stderr), file=sys.stderr)
                answer = TextAnswer(reasoning=False)
    except grpc.RpcError as error:
        raise to_command_error(error, sidecar.address) from None
    finally:
        call.cancel()
        answer.end()
    if job.state != v1.JOB_STATE_COMPLETED:
        raise CommandError(
            f"job {job.job_id} is {_state(job)}{f': {job.message}' if job.message else ''}",
            ExitCode.FAILED,
            "OK",
            reason=job.reason,
            request_id=job.failure.request_id,
            attempts=job.failure.attempts,
        )


def _list(arguments: argparse.Namespace) -> None:
    states = [f"JOB_STATE_{state.upper()}" for state in arguments.state]
    query = v1.ListJobsRequest(states=states, batch_id=arguments.batch, tenant=arguments.tenant)
    found = v1.ListJobsResponse()
    with connect(arguments) as sidecar:
        jobs = JobServiceStub(sidecar.channel)
        while True:
            left = arguments.limit - len(found.jobs) if arguments.limit else _PAGE
            query.page_size = min(left, _PAGE)
            page = jobs.ListJobs(query, **sidecar.call)
            found.jobs.extend(page.jobs)
            query.page_token = found.next_page_token = page.next_page_token
            if not page.next_page_token or (arguments.limit and len(found.jobs) >= arguments.limit):
                break
    if arguments.json:
        print_json(found)
    elif found.jobs:
        print_table(_COLUMNS, [_row(job) for job in found.jobs], numbers=_NUMBERS)
    else:
        print("There are no such jobs.")


def _show(job: v1.Job, response: v1.GetJobResponse | v1.CancelJobResponse, *, as_json: bool) -> None:
    if as_json:
        print_json(response)
        return
    for label, text in _rows(job):
        print(f"{dim(f'{label:<9}', sys.stdout)} {one_line(text)}")


def _rows(job: v1.Job) -> Iterator[tuple[str, str]]:
    yield "job", job.job_id
    position = f" · {job.position:,} before it" if job.position else ""
    yield "state", f"{_state(job)}{position}"
    if job.reason:
        yield "reason", f"{job.reason}: {job.message}" if job.message else job.reason
    yield "model", job.model or "the default"
    if job.target:
        yield "target", job.target
    yield "tries", str(job.tries)
    for attempt in job.failure.attempts:
        yield "attempt", f"{attempts.target(attempt)} {attempts.ending(attempt)}"
    for name in ("submitted", "started", "ended", "expires"):
        if job.HasField(f"{name}_at"):
            yield name, units.moment(getattr(job, f"{name}_at"))
    if job.batch_id:
        yield "batch", job.batch_id
    if job.HasField("usage"):
        yield "tokens", f"{job.usage.input_tokens:,} in · {job.usage.output_tokens:,} out"
    if job.HasField("cost"):
        yield "cost", units.usd(job.cost.total_nano_usd)


def _row(job: v1.Job) -> tuple[Cell, ...]:
    return (
        job.job_id,
        Styled(_state(job), _COLOURS.get(job.state, "")),
        units.moment(job.submitted_at),
        job.model,
        str(job.tries),
        units.usd(job.cost.total_nano_usd) if job.HasField("cost") else "-",
        job.reason,
    )


def _state(job: v1.Job) -> str:
    return units.words(units.name_of(v1.JobState, job.state, "JOB_STATE_"))
