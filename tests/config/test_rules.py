"""What must hold between settings."""

import pytest
from pydantic import ValidationError

from outrider.config import Config, Server
from tests.config.conftest import Load, Problems

PUBLIC = (
    "other machines can reach this address: set server.tls, or listen on 127.0.0.1, or set server.insecure"
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: {listen: 0.0.0.0:1}", f"server.listen: {PUBLIC}"),
        ("server: {listen: example.com:1}", f"server.listen: {PUBLIC}"),
        ("server: {listen: ''}", "server.listen: empty, and server.unix_socket is not set"),
        ("admin: {listen: 127.0.0.1:50051}", "admin.listen: server.listen and admin.listen are the same"),
        ("server: {listen: 127.0.0.1:9464}", "server.listen: server.listen and admin.listen are the same"),
        ("callers: {a: }", "callers.a: has no token; set token or token_file"),
        ("callers: {a: {token: ''}}", "callers.a: has no token; set token or token_file"),
        ("callers: {a: {token: x, token_file: y}}", "callers.a.token_file: set either token or token_file"),
        ("callers: {a: {token: x}, b: {token: x}}", "callers.b.token: the same token as caller 'a'"),
        (
            "providers: {groq: {api_key: x, api_key_file: y}}",
            "providers.groq.api_key_file: set either api_key",
        ),
        (
            "providers: {groq: {simulated: {seed: 1}}}",
            "providers.groq.simulated: only a provider with format",
        ),
        (
            "providers: {anthropic: {done_marker: false}}",
            "providers.anthropic.done_marker: only a provider with format: openai",
        ),
        (
            "providers: {simulated: {simulated: {replay: ./nowhere}}}",
            "providers.simulated.simulated.replay: there is no such folder, or it cannot be read",
        ),
        (
            "providers: {simulated: {simulated: {replay: outrider.yaml}}}",
            "providers.simulated.simulated.replay: there is no such folder",
        ),
        (
            "providers: {simulated: {simulated: {script: '- nonsense: 1'}}}",
            "providers.simulated.simulated.script: step 1 of the script: 'nonsense' is not one of: text,",
        ),
        (
            "providers: {f: {format: simulated, simulated: {script: '- fail: stalled'}}}",
            "providers.f.simulated.script: step 1 of the script: fail must be one of: unreachable,",
        ),
        (
            "providers: {local: }",
            "providers.local: needs a base_url; only openai, anthropic, groq, simulated",
        ),
        ("providers: {local: {format: openai}}", "providers.local: needs a base_url"),
        ("routes: {fast: [opena/x]}", "routes.fast[0]: provider 'opena' is not configured; known: simulated"),
        (
            "routes: {fast: [simulate/x]}",
            "routes.fast[0]: provider 'simulate' is not configured; did you mean",
        ),
        (
            "default_model: fast",
            "default_model: 'fast' is neither a route, nor in the models of a provider, nor",
        ),
        (
            "default_model: fsat\nmodels: {fast: [simulated/x]}",
            "default_model: 'fsat' is neither a route, nor in the models of a provider, nor",
        ),
        (
            "primary_provider: simulate",
            "primary_provider: provider 'simulate' is not configured; did you mean",
        ),
        (
            "fallback_provider: other",
            "fallback_provider: provider 'other' is not configured; known: simulated",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(problems: Problems, text: str, problem: str) -> None:
    """The problem stands with the setting that has to change, and is the only one."""
    (line,) = problems(text)

    assert line.startswith(f"outrider.yaml:1: {problem}")


@pytest.mark.parametrize(
    "text",
    [
        "server: {listen: 0.0.0.0:1, insecure: true}",
        "server: {listen: 0.0.0.0:1, tls: {cert_file: a, key_file: b}}",
        "server: {listen: '', unix_socket: /run/o.sock}",
        "admin: {listen: 0.0.0.0:9464}",
        "server: {listen: 127.0.0.1:0}\nadmin: {listen: 127.0.0.1:0}",
        "server: {listen: '', unix_socket: /o}\nadmin: {listen: ''}",
        "providers: {flaky: {format: simulated, simulated: {seed: 1}}}",
        "providers: {simulated: {simulated: {seed: 1}}}",
        "providers: {simulated: {simulated: {replay: .}}}",
        "providers: {simulated: {simulated: {script: '- text: a'}}}",
        "providers: {simulated: {simulated: {script: '- any text: [is an answer'}}}",
        "default_model: simulated",
        "default_model: simulated/anything",
        "default_model: a/b\nproviders: {simulated: {models: [a/b]}}",
        "default_model: fast\nmodels: {fast: [simulated/x]}",
    ],
)
def test_what_goes_together_is_accepted(load_text: Load, text: str) -> None:
    """The rules refuse nothing that works."""
    load_text(text)


def test_the_rules_hold_for_every_configuration() -> None:
    """A configuration that is made in code cannot be unsafe either."""
    with pytest.raises(ValidationError, match="other machines can reach this address"):
        Config(server=Server(listen="0.0.0.0:50051"))


def test_everything_that_is_wrong_is_told_at_once(problems: Problems) -> None:
    """Bad values, unknown keys, broken rules and bad variables come together: the file's in its order."""
    text = """\
sever: {}
server:
  listen: 0.0.0.0:50051
  drain: {grace: forever}
providers:
  openai: {timeout: 3s}
  local: {format: openai}
routes:
  fast: [openai/x, opena/x]
default_model: fsat
"""
    lines = problems(text, {"OUTRIDER_LOG__LEVEL": "loud", "OUTRIDER_LOGS": "x"})

    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "sever",
        "server.listen",
        "server.drain.grace",
        "providers.openai.timeout",
        "providers.local",
        "routes.fast[1]",
        "default_model",
        "unknown variable; did you mean OUTRIDER_LOG?",
        "log.level",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "providers: {Local: {}}\nmodels: {fast: [Local/x]}\nprimary_provider: simulated",
        "routes: {fast: [gpt]}\ndefault_model: fast",
        "providers: 5\nprimary_provider: groq\ndefault_model: x",
        "callers: {a: {tokn: x}}",
        "providers: {local: {base_url: x}}",
    ],
)
def test_one_mistake_is_one_problem(problems: Problems, text: str) -> None:
    """What merely follows from a mistake is not told as well."""
    assert len([line for line in problems(text) if "simulated' is not" not in line]) == 1
