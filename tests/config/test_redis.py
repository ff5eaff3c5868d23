"""The section about the shared Redis, and its URL."""

import pytest

from outrider.core.redis_url import Deployment, Host, parse_redis_url
from tests.config.conftest import Load, Problems

SECRET = "s3cr3t-passw0rd"


@pytest.mark.parametrize(
    ("url", "deployment", "tls", "hosts", "service", "database"),
    [
        ("redis://redis", Deployment.SINGLE, False, [("redis", 6379)], "", 0),
        ("redis://redis:6380/3", Deployment.SINGLE, False, [("redis", 6380)], "", 3),
        ("REDISS://u:p@[::1]:1/", Deployment.SINGLE, True, [("::1", 1)], "", 0),
        ("redis+sentinel://a,b:1/main", Deployment.SENTINEL, False, [("a", 26379), ("b", 1)], "main", 0),
        ("rediss+sentinel://:p@a/main/2", Deployment.SENTINEL, True, [("a", 26379)], "main", 2),
        ("redis+cluster://a:7000,b", Deployment.CLUSTER, False, [("a", 7000), ("b", 6379)], "", 0),
        ("rediss+cluster://a", Deployment.CLUSTER, True, [("a", 6379)], "", 0),
    ],
)
def test_every_deployment_has_its_url(
    url: str, deployment: Deployment, tls: bool, hosts: list[tuple[str, int]], service: str, database: int
) -> None:
    """Scheme, hosts and path say all there is to know; ports have their usual defaults."""
    found = parse_redis_url(url)

    assert (found.deployment, found.tls) == (deployment, tls)
    assert found.hosts == tuple(Host(*host) for host in hosts)
    assert (found.service, found.database) == (service, database)


def test_user_and_password_are_decoded() -> None:
    """What a URL cannot hold is percent-encoded in it, and does not show when it is printed."""
    found = parse_redis_url(f"rediss+sentinel://us%40er:{SECRET}%2F%3A@a:1,b:2/main/4")

    assert (found.username, found.password) == ("us@er", f"{SECRET}/:")
    assert str(found) == "rediss+sentinel://a:1,b:2/main/4"
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url: redis", "url: must be a URL such as redis://redis:6379/0; schemes: redis, "),
        ("url: http://redis", "url: must be a URL such as redis://redis:6379/0; schemes: redis, "),
        ("url: unix:///tmp/redis.sock", "url: must be a URL such as redis://redis:6379/0; schemes: redis, "),
        ("url: redis://", "url: must be a URL such as redis://redis:6379/0; schemes: redis, "),
        ("url: 'redis://a,b'", "url: names several servers: use redis+sentinel:// or redis+cluster://"),
        ("url: redis://a:x", "url: must name each server as host or host:port"),
        ("url: redis://a:0", "url: must name each server as host or host:port"),
        ("url: 'redis+cluster://a,'", "url: must name each server as host or host:port"),
        ("url: 'redis://::1'", "url: must name each server as host or host:port"),
        ("url: redis://a/one", "url: must end with the number of the database"),
        ("url: redis://a/1/2", "url: must end with the number of the database"),
        ("url: redis+cluster://a/1", "url: must not name a database: a Cluster has only one"),
        ("url: redis+sentinel://a", "url: must name the service: redis+sentinel://host:26379/mymaster"),
        ("url: 'redis://a?db=1'", "url: must be a URL without ? and #"),
        ("url: 'redis://:pass#word@a'", "url: must be a URL without ? and #"),
        ("prefix: ''", "prefix: must have letters, digits"),
        ("prefix: 'a{b}'", "prefix: must have letters, digits"),
        ("timeout: 0", "timeout: must be greater than 0"),
        ("timeout: 11s", "timeout: must be at most 10"),
        ("fleet_size: 0", "fleet_size: must be at least 1"),
        ("password: x, password_file: y", "password_file: set either password or password_file, not both"),
        ("url: 'redis://:x@a', password: y", "url: holds a password, and another one is set beside it"),
        ("url: 'redis://:x@a', password_file: y", "url: holds a password, and another one is set beside it"),
        ("url: 'redis://a', ca_file: y", "ca_file: is of no use without TLS; write rediss:// in redis.url"),
    ],
)
def test_what_cannot_work_is_refused(problems: Problems, text: str, problem: str) -> None:
    """The problem names the key, and says what would be right."""
    (line,) = problems(f"redis: {{{text}}}")

    assert line.startswith(f"outrider.yaml:1: redis.{problem}")


def test_the_environment_of_a_service_is_enough(load_text: Load) -> None:
    """REDIS_URL works with its password in it; an empty url in the file keeps out of that Redis."""
    environ = {"REDIS_URL": f"redis://default:{SECRET}@redis:6379/1"}

    address = load_text("", environ).redis.address

    assert address is not None
    assert (address.username, address.password) == ("default", SECRET)
    assert load_text("redis: {url: ''}", environ).redis.address is None
    assert load_text("").redis.address is None


def test_passwords_are_not_shown(load_text: Load, problems: Problems) -> None:
    """Row 28: neither the configuration nor an error shows a password, wherever it stands."""
    config = load_text(f"redis: {{url: 'redis://a', password: {SECRET}}}")
    in_url = load_text(f"redis: {{url: 'redis://:{SECRET}@a'}}")

    assert SECRET not in f"{config} {config!r} {in_url} {in_url!r} {in_url.redis.address!r}"
    for url in (f"redis://:{SECRET}@a:b", f"http://:{SECRET}@a", f"redis://:{SECRET}@a/{SECRET}"):
        assert SECRET not in "".join(problems(f"redis: {{url: '{url}'}}"))
