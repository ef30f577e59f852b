"""What no program checks until somebody needs it: the Makefile, the containers, the dashboard, the documentation."""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.api import router
from service.errors import BY_EXCEPTION, BY_STATUS, INTERNAL
from service.metrics import Metrics
from service.settings import PREFIX, Settings
from service.variants import VARIANTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DASHBOARD = ROOT / "deploy/grafana/dashboards/tandem.json"
METRIC = re.compile(r"\b(?:tandem|process)_\w+")
SELECTION = re.compile(r"\b((?:tandem|process)_\w+)\{([^}]*)\}")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
PAGES = [*DOCS.glob("*.md"), *ROOT.glob("*.md")]


def load(path: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = load("docker-compose.yml")
    return found


@pytest.fixture(scope="module")
def families() -> dict[str, tuple[str, set[str]]]:
    """What the service exposes: type and labels by name of the family."""
    metrics = Metrics()
    found = {family.name: (family.type, set[str]()) for family in metrics.registry.collect()}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            found[family.name] = (family.type, set(metric._labelnames))
    return found


@pytest.fixture(scope="module")
def series(families: dict[str, tuple[str, set[str]]]) -> dict[str, set[str]]:
    """The labels of every series that can be queried, by its name."""
    return {
        name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
        for name, (kind, labels) in families.items()
        for suffix in SUFFIXES.get(kind, ("",))
    }


def queries() -> Iterator[str]:
    """Every PromQL expression of the repository."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (variable["query"]["query"] for variable in dashboard["templating"]["list"] if "refresh" in variable)
    for group in load("deploy/alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Mount point by path in the repository."""
    volumes = (volume.split(":") for volume in service.get("volumes", ()))
    return {volume[0]: volume[1] for volume in volumes if volume[0].startswith(".")}


def published_ports(service: dict[str, Any]) -> set[int]:
    """The ports inside the container that compose publishes."""
    return {int(port.rpartition(":")[2]) for port in service["ports"]}


def test_compose_mounts_only_what_exists(compose: dict[str, Any]) -> None:
    named = set(compose["volumes"])
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in named, f"{name}: {volume}"


def test_compose_publishes_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_container_has_a_health_check(compose: dict[str, Any]) -> None:
    assert all("healthcheck" in service for service in compose["services"].values())


def test_compose_and_the_image_set_only_settings_that_exist(compose: dict[str, Any]) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    given = set(compose["services"]["tandem"]["environment"])
    given |= set(re.findall(rf"\b({PREFIX}\w+)=", (ROOT / "Dockerfile").read_text()))
    assert given
    assert given <= known


def test_redis_is_bounded_and_evicts_index_rows_first(compose: dict[str, Any]) -> None:
    command = compose["services"]["redis"]["command"]
    assert "--maxmemory" in command
    assert command[command.index("--maxmemory-policy") + 1] == "volatile-ttl"
    assert command[command.index("--maxmemory-samples") + 1] == "64"  # as in docs/operations.md


def test_prometheus_scrapes_the_port_that_the_service_listens_on(compose: dict[str, Any]) -> None:
    (job,) = load("deploy/prometheus.yml")["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert published_ports(compose["services"][host]) == {int(port)}
    assert f"TANDEM_PORT={port} " in dockerfile
    assert f"EXPOSE {port}\n" in dockerfile


def test_prometheus_finds_its_rules(compose: dict[str, Any]) -> None:
    inside = mounts(compose["services"]["prometheus"])
    rules = load("deploy/prometheus.yml")["rule_files"]
    assert [inside[f"./deploy/{name}"] for name in rules] == [f"/etc/prometheus/{name}" for name in rules]


def test_grafana_finds_prometheus_and_the_dashboard(compose: dict[str, Any]) -> None:
    grafana = compose["services"]["grafana"]
    folder = mounts(grafana)[f"./{DASHBOARD.parent.relative_to(ROOT)}"]
    (provider,) = load("deploy/grafana/provisioning/dashboards/tandem.yml")["providers"]
    (source,) = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert provider["options"]["path"] == folder
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/{DASHBOARD.name}"
    assert source["url"] == "http://prometheus:9090"
    assert published_ports(compose["services"]["prometheus"]) == {9090}


def test_grafana_knows_no_password(compose: dict[str, Any]) -> None:
    environment = compose["services"]["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert not any("PASSWORD" in name or "SECRET" in name for name in environment)


@pytest.mark.parametrize("query", list(queries()))
def test_queries_name_series_and_labels_that_exist(query: str, series: dict[str, set[str]]) -> None:
    names = set(METRIC.findall(query))
    assert names <= set(series)
    assert names or query.startswith("up{")
    for name, matchers in SELECTION.findall(query):
        labels = set(re.findall(r"(\w+)(?==|!)", re.sub(r'"[^"]*"', "", matchers)))
        assert labels <= series.get(name, set()) | {"job", "instance"}, f"{name} has no such label"
    grouped = {label.strip() for part in re.findall(r"\bby \(([^)]*)\)", query) for label in part.split(",")}
    known = {label for name in names for label in series[name]}
    assert grouped <= known | {"job", "instance"}


def test_the_dashboard_and_the_alerts_know_the_objective() -> None:
    from service.metrics import OBJECTIVE_S

    edges = {edge for query in queries() for edge in re.findall(r'le="([^"]+)"', query)}
    assert edges == {str(OBJECTIVE_S)}


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def make(*arguments: str) -> str:
    """What make prints; the variables of a make around the tests are kept from it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert found
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert targets == set(found[1].split())
    assert {line.split()[0] for line in make("help").splitlines()} == targets


def test_make_never_installs_both_runtimes() -> None:
    for runtime, other in (("cpu", "gpu"), ("gpu", "cpu")):
        plan = make("--dry-run", "--always-make", f"RUNTIME={runtime}", "test")
        extras = [extras.split(",") for extras in re.findall(r"--editable '\.\[([^]]*)\]'", plan)]
        assert all(runtime in names and other not in names for names in extras)
        assert len(extras) == 2


def test_ci_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text().splitlines()
    assert script[0] == "#!/usr/bin/env bash"
    assert script[1] == "set -euo pipefail"
    assert script[-1] == "make test"
    assert "$ make test\n" in (ROOT / "README.md").read_text()


def test_the_image_copies_only_what_exists_and_is_let_in() -> None:
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = {source for line in lines if line[:1] == ["COPY"] and "--from" not in line[1] for source in line[1:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    assert {source for source in copied if not (ROOT / source).exists()} == set()


def test_the_image_needs_what_serving_needs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (runtime,) = re.findall(r"^ARG RUNTIME=(\w+)$", dockerfile, re.MULTILINE)
    assert not any("torch" in requirement for requirement in extras[runtime])
    assert "USER tandem\n" in dockerfile


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


def test_the_serving_guide_is_complete(families: dict[str, tuple[str, set[str]]]) -> None:
    guide = (DOCS / "serving.md").read_text()
    routes = {route.path for route in router.routes if hasattr(route, "path")}
    problems = {kind.slug for kind in (*BY_EXCEPTION.values(), *BY_STATUS.values(), INTERNAL)}
    measured = {name for name in families if name.startswith("tandem_")}
    for names in (routes, problems, measured, VARIANTS):
        assert {name for name in names if f"`{name}" not in guide and f" {name}`" not in guide} == set()


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
