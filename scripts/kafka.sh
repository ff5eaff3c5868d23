#!/usr/bin/env bash
# See to it that the tests find Apache Kafka: fetch the jars in kafka.jars by Maven, each checked against its SHA-256.
set -euo pipefail
jars=$(cd "$(dirname "$0")" && pwd)/kafka.jars
cache=${OUTRIDER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/outrider-kafka
folder=$cache/$(sha256sum "$jars" | cut -c1-16)

if ! command -v java >/dev/null || { [ ! -d "$folder" ] && ! command -v mvn >/dev/null; }; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "· installing Java and Maven" >&2
    install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless maven >/dev/null 2>&1; }
    install || { apt-get update -qq >/dev/null && install; } || true
  fi
fi
if ! command -v java >/dev/null || { [ ! -d "$folder" ] && ! command -v mvn >/dev/null; }; then
  cat >&2 <<'HOW'
The tests of events need Java 17 or newer and, once, Maven:
  Debian, Ubuntu    sudo apt-get install default-jre-headless maven
  Fedora            sudo dnf install java-21-openjdk-headless maven
  Alpine            sudo apk add openjdk21-jre-headless maven
  macOS             brew install openjdk maven coreutils
HOW
  exit 1
fi

if [ ! -d "$folder" ]; then
  echo "· fetching Apache Kafka (26 MB, once)" >&2
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/new-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>dev.outrider</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>'
    # Nothing comes along that is not in the list.
    sed -E 's|^[0-9a-f]+  ([^:]+):([^:]+):(.+)$|<dependency><groupId>\1</groupId><artifactId>\2</artifactId><version>\3</version><exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>|' "$jars"
    echo '</dependencies></project>'
  } >"$work/pom.xml"
  (cd "$work" && mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DoutputDirectory="$work/lib" >&2)
  sed -E 's|^([0-9a-f]+)  [^:]+:([^:]+):(.+)$|\1  \2-\3.jar|' "$jars" | (cd "$work/lib" && sha256sum --check --quiet --strict)
  [ -d "$folder" ] || mv "$work/lib" "$folder" # unless another was first
fi
echo "$folder"
