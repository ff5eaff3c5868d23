"""The section about where events go."""

import pytest

from tests.config.conftest import Load, Problems

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PASSWORD = "s3cr3t-passw0rd"
HOOK = "url: 'https://h.example/x?token=t0p'"


def test_nothing_is_on_by_default(load_text: Load) -> None:
    """Each channel is turned on by its own section, for which `{}` is enough where nothing has to be said."""
    events = load_text("").events
    assert (events.redis, events.kafka, events.webhooks) == (None, None, ())

    on = load_text("redis: {url: 'redis://a'}\nevents: {redis: {}, kafka: {brokers: ['k:9092']}}").events
    assert on.redis is not None
    assert (on.redis.stream, on.redis.max_length) == (None, 100_000)
    assert on.kafka is not None
    assert (on.kafka.topic, on.kafka.tls, on.kafka.username) == ("outrider-events", False, None)


def test_a_webhook_needs_little(load_text: Load) -> None:
    """A URL and what to sign with; it is then sent everything."""
    (hook,) = load_text(f"events: {{webhooks: [{{{HOOK}, secret: {SECRET}}}]}}").events.webhooks
    assert (hook.types, hook.timeout) == ((), 10.0)
    assert hook.secret is not None
    assert hook.secret.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("source: a b", "source: must be printable ASCII without spaces"),
        ("buffer: 99", "buffer: must be at least 100"),
        ("redis: {}", "redis: there is no Redis to write to; set redis.url"),
        ("kafka: {}", "kafka.brokers: is missing"),
        ("kafka: {brokers: []}", "kafka.brokers: must not be empty"),
        ("kafka: {brokers: [k]}", 'kafka.brokers[0]: must be "host:port"'),
        ("kafka: {brokers: ['k:0']}", 'kafka.brokers[0]: must be "host:port"'),
        ("kafka: {brokers: ['k:1'], topic: a/b}", "kafka.topic: must be the name of a topic"),
        ("kafka: {brokers: ['k:1'], mechanism: x}", "kafka.mechanism: must be 'plain', 'scram-sha-256' or "),
        ("kafka: {brokers: ['k:1'], ca_file: x}", "kafka.ca_file: is of no use without TLS; set tls: true"),
        ("kafka: {brokers: ['k:1'], username: x}", "kafka.username: has no password"),
        ("kafka: {brokers: ['k:1'], password: x}", "kafka: has a password, but no username"),
        (
            "kafka: {brokers: ['k:1'], username: u, password: x, password_file: y}",
            "kafka.password_file: set either password or password_file, not both",
        ),
        (
            "kafka: {brokers: ['k:1'], username: u, password: x, mechanism: plain}",
            "kafka.mechanism: plain would show the password to the network; set tls: true",
        ),
        (f"webhooks: [{{secret: {SECRET}}}]", "webhooks[0].url: is missing"),
        (f"webhooks: [{{url: 'ftp://x', secret: {SECRET}}}]", "webhooks[0].url: must be a URL, such as"),
        (
            f"webhooks: [{{url: 'http://u@x', secret: {SECRET}}}]",
            "webhooks[0].url: must be a URL without user",
        ),
        (f"webhooks: [{{{HOOK}}}]", "webhooks[0]: has nothing to sign with; set secret or secret_file"),
        (f"webhooks: [{{{HOOK}, secret: short}}]", "webhooks[0].secret: must be whsec_ and 24 to 64"),
        (f"webhooks: [{{{HOOK}, secret: 'no base 64 at all!'}}]", "webhooks[0].secret: must be whsec_ and"),
        (
            f"webhooks: [{{{HOOK}, secret: {SECRET}, secret_file: x}}]",
            "webhooks[0].secret_file: set either secret or secret_file, not both",
        ),
        (
            f"webhooks: [{{{HOOK}, secret: {SECRET}, types: [job]}}]",
            'webhooks[0].types[0]: must be a type of events or its beginning, such as "dev.outrider.job"',
        ),
        (
            f"webhooks: [{{{HOOK}, secret: {SECRET}, timeout: 0}}]",
            "webhooks[0].timeout: must be greater than",
        ),
    ],
)
def test_what_cannot_work_is_refused(problems: Problems, text: str, problem: str) -> None:
    """The problem names the key, and says what would be right."""
    (line,) = problems(f"events: {{{text}}}")

    assert line.startswith(f"outrider.yaml:1: events.{problem}")


def test_secrets_are_not_shown(load_text: Load, problems: Problems) -> None:
    """Row 28: neither the configuration nor an error shows a secret, a password or a webhook's token."""
    kafka = f"kafka: {{brokers: ['k:1'], username: u, password: {PASSWORD}}}"
    config = load_text(f"events: {{{kafka}, webhooks: [{{{HOOK}, secret: {SECRET}}}]}}")
    wrong = problems(f"events: {{webhooks: [{{url: 'https://u:{PASSWORD}@x', secret: {PASSWORD}}}]}}")

    shown = f"{config} {config!r} {wrong}"
    for secret in (SECRET, PASSWORD, "t0p"):
        assert secret not in shown
