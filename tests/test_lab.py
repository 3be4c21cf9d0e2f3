"""Each notebook, opened in a real JupyterLab in a real browser, runs to its end, shows its figures
and calls nobody.

Needs chromium (from the system, or named by CHROMIUM) and the extra `browser`; skipped, with the
reason, without them.
"""

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIRST, *OTHERS = NOTEBOOKS  # the others take half a minute each
ONE_AND_THE_LONG = [FIRST, *(pytest.param(path, marks=pytest.mark.long) for path in OTHERS)]
SCREENS = ROOT / "build" / "screens"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
START_SECONDS = 120
RUN_SECONDS = 300

NO_BROWSER = (
    "chromium is not installed"
    if CHROMIUM is None
    else "playwright is not installed (extra: browser)"
    if importlib.util.find_spec("playwright") is None
    else "jupyterlab is not installed"
    if importlib.util.find_spec("jupyterlab") is None
    else None
)
needs_browser = pytest.mark.skipif(NO_BROWSER is not None, reason=str(NO_BROWSER))

# JupyterLab shows these to scripts in the page when expose_app_in_browser is set. The kernel's own
# status is asked for, not a spinner on the page.
KERNEL_IS_IDLE = """() => {
  const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
  return kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
# Stored outputs go first, or they would pass for new ones.
RUN_ALL_CELLS = """async () => {
  await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
  window.jupyterapp.commands.execute('notebook:run-all-cells');
}"""
OUTCOME = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = panel.content.widgets.map(cell => cell.model).filter(model => model.type === 'code');
  const outputs = cells.flatMap(model => Array.from({length: model.outputs.length}, (_, i) => model.outputs.get(i)));
  const errors = outputs.filter(output => output.type === 'error').map(output => String(output.toJSON().evalue));
  const counts = cells.map(model => model.executionCount);
  const done = !counts.includes(null) && panel.sessionContext.session.kernel.status === 'idle';
  const figures = outputs.filter(output => 'image/png' in (output.data ?? {})).length;
  return (done || errors.length) ? {errors, counts, figures} : false;
}"""


# The overrides that the cell's own comment gives as an example, the first of them.
CHANGE_A_PARAMETER = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model);
  const found = cells.filter(model => (model.getMetadata('tags') ?? []).includes('parameters'));
  const source = found[0].sharedModel.getSource();
  const example = source.match(/overrides = \\{\\}  # such as (\\{.*?\\})/)[1];
  found[0].sharedModel.setSource(source.replace('overrides = {}', `overrides = ${example}`));
  return example;
}"""
PICTURE_CHANGED = """([place, before]) =>
  document.querySelectorAll('.jp-OutputArea-output .widget-image')[place].src !== before"""


class Lab(NamedTuple):
    """A JupyterLab server: its address, the token that opens it and the folder that it shows."""

    address: str
    token: str
    root: Path

    def url(self, path: str) -> str:
        return f"{self.address}/{path}?token={self.token}&reset"


def on_loopback(url: str) -> bool:
    """Whether a request for `url` stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname in (
        "127.0.0.1",
        "localhost",
        "::1",
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write_settings(folder: Path) -> None:
    """No news pop-up over the page, and every cell in the page, not only those in view."""
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }
    for name, values in settings.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def server_environment(home: Path) -> dict[str, str]:
    """Jupyter's own folders are all under `home`; the bar of a run is drawn, as a reader sees it."""
    folders = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    own = {"REPLICATE_JOBS": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    return inherited | own | {name: str(folder) for name, folder in folders.items()}


def server_command(lab: Lab) -> list[str]:
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={urlsplit(lab.address).port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={lab.token}",
        f"--ServerApp.root_dir={lab.root}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]


def wait_for_answer(lab: Lab, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"JupyterLab ended at once:\n{log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(lab.url("api"), timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab gave no answer in {START_SECONDS} s:\n{log.read_text()[-2000:]}")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """A JupyterLab on a copy of the notebooks: the page may save, and the checkout must not change."""
    home = tmp_path_factory.mktemp("jupyter")
    (home / "copy" / "notebooks").mkdir(parents=True)
    for path in NOTEBOOKS:
        shutil.copy(path, home / "copy" / "notebooks")
    write_settings(home / "settings")
    lab = Lab(f"http://127.0.0.1:{free_port()}", secrets.token_hex(16), home / "copy")
    log = home / "server.log"
    with log.open("w") as stream:
        command = server_command(lab)
        process = subprocess.Popen(
            command, env=server_environment(home), stdout=stream, stderr=stream
        )
    try:
        wait_for_answer(lab, process, log)
        yield lab
    finally:
        stop(process)


class Seen(NamedTuple):
    """What a page did that it should not: addresses asked for outside this machine, and errors in
    its scripts.
    """

    outside: list[str]
    errors: list[str]


@contextmanager
def browser_page(profile: Path):
    """A page in a new browser, and what it does wrong; requests to the outside are aborted."""
    from playwright.sync_api import sync_playwright

    seen = Seen([], [])

    def admit(route) -> None:
        if on_loopback(route.request.url):
            route.continue_()
        else:
            seen.outside.append(route.request.url)
            route.abort()

    size = {"width": 1280, "height": 1400}
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=FLAGS, viewport=size
        )
        try:
            context.route("**/*", admit)
            page = context.pages[0] if context.pages else context.new_page()
            page.on(
                "websocket",
                lambda opened: on_loopback(opened.url) or seen.outside.append(opened.url),
            )
            page.on("pageerror", lambda error: seen.errors.append(str(error)))
            yield page, seen
        finally:
            context.close()


def run_all_cells(page, address: str) -> dict:
    """Open a notebook, run it, and return the errors, the cells' counts and the number of figures."""
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(
        ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell", timeout=START_SECONDS * 1000
    )
    page.wait_for_function(KERNEL_IS_IDLE, timeout=START_SECONDS * 1000)
    page.evaluate(RUN_ALL_CELLS)
    return page.wait_for_function(OUTCOME, timeout=RUN_SECONDS * 1000, polling=250).json_value()


@needs_browser
@pytest.mark.parametrize("path", ONE_AND_THE_LONG, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_in_jupyterlab_and_shows_its_figures(lab, path, tmp_path):
    SCREENS.mkdir(parents=True, exist_ok=True)
    with browser_page(tmp_path) as (page, seen):
        try:
            outcome = run_all_cells(page, lab.url(f"lab/tree/notebooks/{path.name}"))
            figure = page.locator(".jp-OutputArea-output img").first
            assert outcome["errors"] == []
            figure.scroll_into_view_if_needed(timeout=20_000)
        finally:
            page.screenshot(path=SCREENS / f"{path.stem}.png")
    assert outcome["counts"] == list(range(1, len(outcome["counts"]) + 1))
    assert outcome["figures"] > 0
    assert seen == Seen(outside=[], errors=[])


def move_every_control(page, pictures: int) -> int:
    """Move each slider and list of so many pictures, which must change; how many sliders there are."""
    count = 0
    for place in range(pictures):
        picture = page.locator(".jp-OutputArea-output .widget-image").nth(place)
        picture.wait_for(timeout=20_000)
        output = picture.locator("xpath=ancestor::div[contains(@class, 'jp-OutputArea-output')][1]")
        for handle in output.locator(".noUi-handle").all():
            before = picture.get_attribute("src")
            handle.focus()
            at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            handle.press("ArrowLeft" if at_end else "ArrowRight")
            page.wait_for_function(PICTURE_CHANGED, arg=[place, before], timeout=20_000)
            count += 1
        for chosen in output.locator("select").all():
            before = picture.get_attribute("src")
            chosen.select_option(index=1)
            page.wait_for_function(PICTURE_CHANGED, arg=[place, before], timeout=20_000)
            count += 1
    return count


# Notebook -> its pictures that move, and their sliders and lists.
CONTROLS = {
    "across": (0, 0),
    "fabi2021extrapolation": (1, 1),
    "sandler2023trajectories": (2, 5),
    "warmerdam2020descent": (0, 0),
    "zhang2019lookahead": (1, 2),
}


@needs_browser
@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_controls_move_pictures_and_a_changed_parameter_runs(lab, path, tmp_path):
    with browser_page(tmp_path) as (page, seen):
        first = run_all_cells(page, lab.url(f"lab/tree/notebooks/{path.name}"))
        pictures, controls = CONTROLS[path.stem]
        moved = move_every_control(page, pictures)
        example = page.evaluate(CHANGE_A_PARAMETER)
        page.evaluate(RUN_ALL_CELLS)
        again = page.wait_for_function(OUTCOME, timeout=RUN_SECONDS * 1000, polling=250)
        outcome = again.json_value()
    assert (first["errors"], outcome["errors"]) == ([], [])
    assert moved == controls
    assert ":" in example and outcome["figures"] == first["figures"]
    assert min(outcome["counts"]) > max(first["counts"])
    assert seen == Seen(outside=[], errors=[])


def write_notebook(path: Path, source: str) -> None:
    """A notebook of one cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, path)


@needs_browser
def test_a_moved_slider_changes_its_picture(lab, tmp_path):
    SCREENS.mkdir(parents=True, exist_ok=True)
    name = "slider.ipynb"
    write_notebook(
        lab.root / "notebooks" / name, "from replicate.app import explore\nexplore.lookahead()"
    )
    with browser_page(tmp_path) as (page, seen):
        outcome = run_all_cells(page, lab.url(f"lab/tree/notebooks/{name}"))
        picture = page.locator(".jp-OutputArea-output .widget-image")
        picture.wait_for(timeout=20_000)
        before = picture.get_attribute("src")
        handle = page.locator(".jp-OutputArea-output .noUi-handle").first
        handle.focus()
        handle.press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('.jp-OutputArea-output .widget-image').src !== before",
            arg=before,
            timeout=20_000,
        )
        readout = page.locator(".jp-OutputArea-output .widget-readout").first.inner_text()
        page.screenshot(path=SCREENS / "slider.png")
    assert (outcome["errors"], readout) == ([], "6")
    assert seen == Seen(outside=[], errors=[])


@needs_browser
def test_a_request_to_the_outside_is_aborted_and_counted(lab, tmp_path):
    with browser_page(tmp_path) as (page, seen):
        page.goto(lab.url("lab"), wait_until="domcontentloaded")
        refused = page.evaluate(
            "() => fetch('http://192.0.2.1/news').then(() => 'answered', () => 'refused')"
        )
    assert (refused, seen.outside) == ("refused", ["http://192.0.2.1/news"])


@pytest.mark.parametrize(
    "url, expected",
    [
        ("http://127.0.0.1:8888/lab", True),
        ("ws://localhost:8888/api/kernels", True),
        ("data:image/png;base64,AAAA", True),
        ("blob:http://127.0.0.1:8888/1", True),
        ("https://example.org/lab", False),
        ("http://127.0.0.1.example.org/", False),
        ("https://example.org/?from=127.0.0.1", False),
    ],
)
def test_only_this_machine_is_on_loopback(url, expected):
    assert on_loopback(url) is expected
