"""Wheel and sdist: built from the files of the repository, they hold what users need and nothing else."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import outrider

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[2]
NAME = f"outrider-{outrider.__version__}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a clone would have it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    tree = tmp_path_factory.mktemp("tree")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def dist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    made = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    """The wheel, which runs on every platform."""
    return zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What the wheel says of itself."""
    return Parser().parsestr(wheel.read(f"{NAME}.dist-info/METADATA").decode())


def files(folder: Path) -> set[str]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_wheel_holds_the_package(wheel: zipfile.ZipFile, tree: Path) -> None:
    """The package is there, whole and alone, so that it can be typed against and finds its data."""
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == files(tree / "src")
    assert {"outrider/py.typed", "outrider/v1/generation_pb2.pyi"} <= packed


def test_wheel_has_the_command(wheel: zipfile.ZipFile) -> None:
    """Installing gives `outrider`."""
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(f"{NAME}.dist-info/entry_points.txt").decode())
    assert dict(scripts["console_scripts"]) == {"outrider": "outrider.cli:main"}


def test_metadata_is_right(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """Name, version, licence and Python are what the project says."""
    assert (metadata["Name"], metadata["Version"]) == ("outrider", outrider.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheel.read(f"{NAME}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_heavy_clients_are_extras(metadata: Message) -> None:
    """A plain install brings neither the vendors' clients nor anything of development."""
    requirements = metadata.get_all("Requires-Dist", [])
    plain = {requirement.split("<")[0] for requirement in requirements if "extra ==" not in requirement}
    assert set(metadata.get_all("Provides-Extra", [])) == {"kafka", "sdk", "tokens"}
    assert not plain & {
        "aiohttp",
        "aiokafka",
        "anthropic",
        "groq",
        "hatchling",
        "openai",
        "pytest",
        "tiktoken",
    }


def test_sdist_can_make_everything(dist: Path, tree: Path) -> None:
    """It holds the sources, the API's proto files and the licence, and no tests."""
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    needed = {name for name in files(tree) if name.startswith(("src/", "proto/"))}
    assert needed | {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_wheel_works_by_itself(dist: Path) -> None:
    """Imported from the wheel alone, the package is the one in the wheel, and its API is usable."""
    (wheel,) = dist.glob("*.whl")
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); "
        "from outrider import v1; print(v1.__file__); v1.GenerateRequest(model='m').SerializeToString()"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.startswith(str(wheel))
