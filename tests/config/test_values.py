"""The kinds of value there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config import Config, Server, Timeouts
from outrider.config.values import Address, parse_address
from tests.config.conftest import Load, Problems


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("2 s", 2.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number of seconds, or has a unit."""
    assert Timeouts.model_validate({"total": text}).total == seconds


@given(st.integers(1, 86_399_999))
def test_milliseconds_and_seconds_agree(milliseconds: int) -> None:
    """A duration means the same in every unit, and as a number."""
    timeouts = Timeouts.model_validate(
        {"connect": f"{milliseconds}ms", "idle": f"{milliseconds / 1000:.3f}s", "total": milliseconds / 1000}
    )

    assert timeouts.connect == pytest.approx(timeouts.total)
    assert timeouts.idle == pytest.approx(timeouts.total)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        (4096, 4096),
        ("4096B", 4096),
        ("10kB", 10_000),
        ("10KiB", 10_240),
        ("10MB", 10**7),
        ("64MiB", 2**26),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    """A size is a number of bytes, or has a unit."""
    assert Server.model_validate({"max_message_bytes": text}).max_message_bytes == size


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051), True),
        ("127.9.9.9:1", ("127.9.9.9", 1), True),
        ("[::1]:0", ("::1", 0), True),
        ("localhost:80", ("localhost", 80), True),
        ("0.0.0.0:80", ("0.0.0.0", 80), False),
        ("[::]:80", ("::", 80), False),
        ("10.0.0.1:80", ("10.0.0.1", 80), False),
        ("localhost.example.com:80", ("localhost.example.com", 80), False),
        ("127.1:80", ("127.1", 80), False),
    ],
)
def test_addresses(text: str, address: tuple[str, int], loopback: bool) -> None:
    """An address is split into host and port, and only what is surely loopback counts as that."""
    assert parse_address(text) == address
    assert Address(*address).loopback is loopback


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: {listen: 8080}", 'server.listen: must be "host:port"'),
        ('server: {listen: ":8080"}', 'server.listen: must be "host:port"'),
        ("server: {listen: 127.0.0.1:70000}", 'server.listen: must be "host:port"'),
        ('server: {listen: "::1:80"}', 'server.listen: must be "host:port"'),
        ("server: {listen: http://127.0.0.1:80}", 'server.listen: must be "host:port"'),
        ("admin: {listen: 127.0.0.1:x}", 'admin.listen: must be "host:port"'),
        ("server: {unix_socket: o.sock}", "server.unix_socket: must be an absolute path"),
        (f"server: {{unix_socket: /{'x' * 107}}}", "server.unix_socket: must be a path of at most 107 bytes"),
        ("server: {insecure: maybe}", "server.insecure: must be true or false"),
        ("server: {tls: {cert_file: a}}", "server.tls.key_file: is missing"),
        ("server: {max_message_bytes: 64}", "server.max_message_bytes: must be at least 1024"),
        ("server: {max_message_bytes: 3GiB}", "server.max_message_bytes: must be at most 2147483647"),
        ("server: {max_message_bytes: 64Mi}", "server.max_message_bytes: must be a size"),
        ("server: {max_message_bytes: [1]}", "server.max_message_bytes: must be a size"),
        ("timeouts: {idle: 5 minutes}", "timeouts.idle: must be a duration"),
        ("timeouts: {idle: -1}", "timeouts.idle: must be a duration"),
        ("timeouts: {idle: 0}", "timeouts.idle: must be greater than 0"),
        ("timeouts: {idle: 25h}", "timeouts.idle: must be at most 86400"),
        ("timeouts: {idle: .inf}", "timeouts.idle: must be a duration"),
        ("timeouts: {idle: {a: b}}", "timeouts.idle: must be a duration"),
        ("attempts: {max_attempts: 1.5}", "attempts.max_attempts: must be a whole number"),
        ("attempts: {max_attempts: 0}", "attempts.max_attempts: must be at least 1"),
        (
            f"attempts: {{max_attempts: {'9' * 5000}}}",
            "attempts.max_attempts: Unable to parse input string as",
        ),
        ("attempts: {factor: much}", "attempts.factor: must be a number"),
        ("attempts: {factor: .nan}", "attempts.factor: must be a number"),
        ("attempts: {factor: nan}", "attempts.factor: must be a finite number"),
        ("attempts: 3", "attempts: must be a mapping"),
        ("routes: 3", "routes: must be a mapping"),
        ("providers: {groq: fast}", "providers.groq: must be a mapping"),
        ("providers: {groq: {models: a}}", "providers.groq.models: must be a list"),
        ("providers: {groq: {models: [{}]}}", "providers.groq.models[0]: must be text"),
        ("providers: {groq: {api_key_file: []}}", "providers.groq.api_key_file: must be a path"),
        ("providers: {groq: {base_url: groq.com}}", "providers.groq.base_url: must be a URL, such as"),
        ("providers: {groq: {base_url: 'http://[x'}}", "providers.groq.base_url: must be a URL, such as"),
        (
            "providers: {groq: {base_url: 'https://h/?k=1'}}",
            "providers.groq.base_url: must be a URL without user",
        ),
        (
            "providers: {groq: {base_url: 'https://u:p@h'}}",
            "providers.groq.base_url: must be a URL without user",
        ),
        ("providers: {groq: {transport: carrier}}", "providers.groq.transport: must be 'direct' or 'sdk'"),
        (
            "providers: {groq: {headers: {'a b': c}}}",
            "providers.groq.headers.a b: must be the name of an HTTP",
        ),
        (
            'providers: {groq: {headers: {a: "b\\nc"}}}',
            "providers.groq.headers.a: must be the value of an HTTP",
        ),
        ("providers: {My Own: {}}", "providers.My Own: a name has lower-case letters"),
        (
            "providers: {s: {format: simulated, simulated: {failure: fire}}}",
            "providers.s.simulated.failure: must be one of unreachable, rate_limited, overloaded",
        ),
        ("routes: {a/b: [simulated/echo]}", "routes.a/b: an alias has letters"),
        ("routes: {fast: []}", "routes.fast: must not be empty"),
        ("routes: {fast: gpt}", "routes.fast: must be a mapping"),
        ("routes: {fast: [gpt]}", 'routes.fast[0]: must be "provider/model"'),
        ("routes:\n  fast:\n    targets:\n      - gpt", 'routes.fast.targets[0]: must be "provider/model"'),
        ("defaults: {temperature: 3}", "defaults.temperature: must be at most 2"),
        ("prices: {m: {input: 1}}", "prices.m.output: is missing"),
        ("prices: {m: {input: 1, output: -1}}", "prices.m.output: must be at least 0"),
        ("prices: {m: {input: a, output: 1}}", "prices.m.input: must be a number"),
        ("prices: {m: {input: 1e-10, output: 1}}", "prices.m.input: must have at most 9 decimal places"),
        ("callers: {a: {token: a, models: []}}", "callers.a.models: must not be empty"),
    ],
)
def test_what_is_out_of_bounds_is_refused(problems: Problems, text: str, problem: str) -> None:
    """A bad value is the only problem reported, with its line, its key and what would be right."""
    (line,) = problems(text)

    assert line.startswith(f"outrider.yaml:{text.count(chr(10)) + 1}: {problem}")


def test_choices_and_provider_names_have_no_case(load_text: Load) -> None:
    """Services write INFO and GROQ; that is meant as info and groq."""
    config = load_text("log: {level: INFO, format: Json}\nprimary_provider: GROQ\nproviders: {groq: }")

    assert (config.log.level, config.log.format, config.primary_provider) == ("info", "json", "groq")


def test_the_configuration_is_frozen(load_text: Load) -> None:
    """Nothing can be changed once it is loaded."""
    config: Config = load_text("")

    with pytest.raises(ValueError, match="frozen"):
        config.timeouts.idle = 5
