"""The command line as a user meets it: processes, exit codes, and one clean line for an expected error."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.service.servers import COMMAND, ROOT, Served

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {blocked!r} else found(name, package)
from tandem.cli import main
main()
"""


def tandem(
    *arguments: str, blocked: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    command = [sys.executable, "-c", BLOCK.format(blocked=blocked)] if blocked else COMMAND
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT, env={**os.environ, **(env or {})}
    )
    return done.returncode, done.stdout, done.stderr


def test_serve_says_in_one_line_what_it_serves_and_how_to_ask(server: Served) -> None:
    assert server.announcement.startswith("Serving tiny@1 (60 items; sasrec, tiger, sid_mlp). Try: curl -s http://")
    command = server.announcement.split("Try: ")[1]
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    assert '"items":[{"item_id":' in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (("--bundle", "no/such/bundle"), {}, "no/such/bundle has neither"),
        (("--port", "99999"), {}, "port: Input should be less than or equal to 65535"),
        ((), {"TANDEM_MAX_K": "many"}, "max_k: Input should be a valid integer"),
        ((), {"TANDEM_EXPERIMENT_WEIGHTS": '{"sasrec": 2}'}, "must sum to 1, got 2.0"),
    ],
)
def test_a_wrong_start_is_one_line(arguments: tuple[str, ...], env: Mapping[str, str], message: str) -> None:
    code, output, log = tandem("serve", *arguments, env=env)
    assert (code, output) == (1, "")
    assert log.startswith("tandem: ")
    assert message in log
    assert log.count("\n") == 1


def test_without_onnxruntime_serve_says_what_to_install(bundle_path: Path) -> None:
    code, _, log = tandem("serve", "--bundle", str(bundle_path), blocked=("onnxruntime",))
    assert code == 1
    assert log.count("\n") == 1
    assert "pip install 'tandem-recommender[cpu]'" in log


@pytest.mark.parametrize("command", ["train", "evaluate", "categorize", "demo-data"])
def test_without_torch_training_commands_say_what_to_install(command: str) -> None:
    code, _, log = tandem(command, "some/path", "--flag", blocked=("torch",))
    assert code == 1
    assert "pip install 'tandem-recommender[train]'" in log
    assert log.count("\n") == 1


def test_the_command_lists_both_halves() -> None:
    code, output, _ = tandem("--help")
    assert code == 0
    for command in ("serve", "train", "evaluate", "categorize", "demo-data"):
        assert command in output
    assert "settings-docs" not in output


def test_the_service_never_imports_torch() -> None:
    script = "import sys, tandem.cli, service.app; tandem.cli.build(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60).returncode == 0


def test_settings_docs_prints_the_page() -> None:
    assert tandem("settings-docs")[1] == (ROOT / "docs" / "settings.md").read_text()


def test_a_port_in_use_is_one_line(server: Served, bundle_path: Path) -> None:
    port = str(server.client.base_url.port)
    code, _, log = tandem("serve", "--bundle", str(bundle_path), "--port", port)
    assert code == 1
    assert log.splitlines()[-1].startswith(f"tandem: port {port} of 127.0.0.1 must be free to listen on")
