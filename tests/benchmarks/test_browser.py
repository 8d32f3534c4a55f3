"""The page in headless Chromium: it draws, sorts and filters, on a phone and in the dark, and asks the network for nothing."""

import contextlib
import os
import shutil

import pytest

from benchmarks import statistics
from benchmarks.report import Grid, build_across, build_leaderboards, write_page
from benchmarks.store import Store
from tests.benchmarks.conftest import finish_run

pytestmark = pytest.mark.harness

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "dqn[<script>window.hacked=1</script><img src=x onerror=window.hacked=2>]"
DESKTOP, PHONE = (1280, 1000), (390, 844)
SECONDS = 60
CURVES = "document.querySelector('[data-kind=curve]').data.filter(line => line.hoverinfo === 'text').map(line => line.name)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if not (binary and driver):
        missing = "there is no Chromium with its driver: apt-get install chromium chromium-driver"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A page with seven algorithms on one environment and two on another, a failure and a hostile label."""
    from benchmarks.spec import RunSpec

    store = Store(tmp_path_factory.mktemp("runs"))
    common = {"steps": 100, "evaluations": 3, "episodes": 3, "evaluation_seed": 0, "package": "sb3_entropic 1"}
    labels = {"CartPole-v1": ["aldqn", "dqn", "mdqn", "softdqn", "ppo", "qrdqn", HOSTILE], "Pendulum-v1": ["msac", "dqn"]}
    specs = [
        RunSpec(env=env, algo="dqn" if label == HOSTILE else label, label=label, seed=seed, hyperparameters={}, **common)
        for env, members in labels.items()
        for label in members
        for seed in range(4)
    ]
    for number, spec in enumerate(specs):
        before = -9000.0 if number == 0 else 50.0
        slow = 20.0 if spec.label == "msac" else 1.0
        finish_run(store, spec, [10.0, before, 7.0 * (number % 11) + spec.seed], seconds=slow * (20.0 + number))
    failed = RunSpec(env="CartPole-v1", algo="sac", label="sac", seed=0, hyperparameters={}, **common)
    store.fail(failed, store.begin(failed), f"Traceback\n{HOSTILE}\nValueError: {HOSTILE}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPETITIONS", 100)
        boards = build_leaderboards(store)
        path = write_page([Grid("grid", boards, build_across(boards))], tmp_path_factory.mktemp("page") / "index.html")
    return path.as_uri()


@pytest.fixture
def open_page(browser, url):
    @contextlib.contextmanager
    def open_page(size=DESKTOP, scheme="light"):
        """The page with all of its plots drawn; at the end nothing may have been said on the console."""
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        resize(browser, *size)
        browser.get_log("browser")
        browser.get(url)
        # So that everything is in view.
        resize(browser, size[0], browser.execute_script("return document.documentElement.scrollHeight"))
        wait(browser, "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg'))")
        yield browser
        assert browser.get_log("browser") == []

    return open_page


def resize(browser, width, height):
    mobile = width < 500
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait(browser, script):
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, SECONDS).until(lambda browser: browser.execute_script(script))


def column(browser, index, board=0):
    """The texts that are shown in a column of the leaderboard, of one environment."""
    return browser.execute_script(
        "const body = document.querySelectorAll('#leaderboard tbody[data-board*=v1]')[arguments[1]];"
        "return [...body.rows].slice(1).filter(row => !row.hidden).map(row => row.cells[arguments[0]].textContent.trim())",
        index,
        board,
    )


def header(browser, name):
    return browser.find_element("xpath", f"//thead//button[normalize-space()='{name}']")


def test_it_loads_and_asks_for_nothing(open_page):
    with open_page() as browser:
        assert browser.title == "sb3_entropic leaderboard"
        assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
        drawn = (
            "return [...document.querySelectorAll('.plot')].map(plot => plot.querySelectorAll('.scatterlayer .trace').length)"
        )
        assert min(browser.execute_script(drawn)) > 0
        assert len(column(browser, 0)) == 8


def test_no_plot_has_a_button_that_sends_it_anywhere(open_page):
    with open_page() as browser:
        buttons = "return [...arguments[0].querySelectorAll('.modebar-btn')].map(button => button.dataset.title)"
        for plot in browser.find_elements("css selector", ".plot"):
            download, *others = browser.execute_script(buttons, plot)
            assert download.startswith("Download plot")
            assert others == ["Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]


def test_times_that_are_far_apart_have_a_tick_at_each_power_of_ten(open_page):
    with open_page() as browser:
        axes = browser.execute_script(
            "return [...document.querySelectorAll('[data-kind=time]')].map(plot => [plot._fullLayout.xaxis.type,"
            " [...plot.querySelectorAll('.xtick text')].map(text => text.textContent)])"
        )
        ticks = dict(axes)["log"]
        assert ticks
        assert set(ticks) <= {"1", "10", "100"}


def test_a_wide_band_does_not_flatten_the_curves(open_page):
    with open_page() as browser:
        ranges = browser.execute_script(
            "return [...document.querySelectorAll('[data-kind=curve]')].map(plot => plot.layout.yaxis.range)"
        )
        assert min(low for low, _ in ranges) > -100, "a run of one had -9,000 on the way"


def test_what_users_call_things_is_inert(open_page):
    with open_page() as browser:
        assert browser.execute_script("return window.hacked === undefined")
        assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
        assert HOSTILE in column(browser, 0)
        titles = browser.execute_script(
            "return [...document.querySelectorAll('.annotation-text')].map(text => text.textContent)"
        )
        assert any(title.startswith("dqn[<script>") for title in titles)


def test_it_sorts(open_page):
    with open_page() as browser:
        by_default = [float(text) for text in column(browser, 1)[:-1]]
        assert by_default == sorted(by_default, reverse=True)
        header(browser, "score").click()
        assert [float(text) for text in column(browser, 1)[:-1]] == by_default[::-1]
        assert column(browser, 1)[-1] == "–", "what has no score stays last"
        assert header(browser, "score").find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
        # By the keyboard.
        header(browser, "algorithm").send_keys("\n")
        assert column(browser, 0) == sorted(column(browser, 0))
        assert [cell.text for cell in browser.find_elements("css selector", "th[aria-sort] button")] == ["algorithm"]


def test_it_filters(open_page):
    with open_page() as browser:
        assert len(browser.execute_script(f"return {CURVES}")) == 7
        browser.find_element("css selector", ".choice summary").click()
        browser.find_element("id", "search").send_keys("softd mdqn")
        assert sorted(column(browser, 0)) == ["mdqn", "softdqn"]
        wait(browser, f"return {CURVES}.length === 2")
        assert sorted(browser.execute_script(f"return {CURVES}")) == ["mdqn", "softdqn"]
        browser.find_element("id", "search").clear()
        browser.find_element("css selector", "#chips input[value=ppo]").find_element("xpath", "..").click()
        assert "ppo" not in column(browser, 0)
        wait(browser, f"return {CURVES}.length === 6")
        board = browser.find_element("css selector", "#leaderboard tbody[data-board*=Pendulum]").get_attribute("data-board")
        browser.find_element("id", "environment").send_keys("Pendulum")
        assert browser.find_element("id", "count").text == "2 rows"
        shown = browser.find_elements("css selector", "section.board:not([hidden])")
        assert [section.get_attribute("id") for section in shown] == [board]
        chips = "return [...document.querySelectorAll('#chips .chip:not([hidden])')].map(chip => chip.textContent.trim())"
        assert browser.execute_script(chips) == ["dqn", "msac"]
        verdicts = "return [...document.querySelectorAll('#help tbody tr:not([hidden]) th')].map(cell => cell.textContent)"
        assert browser.execute_script(verdicts) == [], "there is none of this environment"
        browser.find_element("css selector", "button[type=reset]").click()
        wait(
            browser,
            "return document.querySelectorAll('main .board[hidden], main tr[hidden]').length === 0",
        )
        assert "ppo" in column(browser, 0)
        assert "mdqn" in browser.execute_script(verdicts)
        browser.find_element("id", "search").send_keys("pendul")
        assert browser.find_element("id", "count").text == "3 rows", "those of the environment, and of it with others"
        browser.find_element("id", "search").send_keys(" msac")
        assert browser.find_element("id", "count").text == "1 row", "and of these one"
        browser.find_element("id", "search").clear()
        browser.find_element("id", "search").send_keys("no such algorithm")
        assert browser.find_element("id", "nothing").is_displayed()


def test_what_is_chosen_still_counts_when_one_comes_back(open_page):
    with open_page() as browser:
        every = browser.find_element("id", "count").text
        browser.find_element("id", "environment").send_keys("Pendulum")
        browser.get("data:text/html,elsewhere")
        browser.back()
        wait(browser, "return document.getElementById('count')?.value")
        chosen = browser.execute_script("return document.getElementById('environment').value")
        assert browser.find_element("id", "count").text == ("2 rows" if chosen else every)


def test_how_a_row_was_made_unfolds(open_page):
    with open_page() as browser:
        row = browser.find_element("css selector", "#leaderboard a[title='how it was made']")
        place = row.get_attribute("href").rpartition("#")[2]
        row.click()
        wait(browser, f"return document.getElementById('{place}').checkVisibility()")
        assert browser.find_element("id", place).get_attribute("open") is not None


def test_an_algorithm_has_one_look_in_every_plot(open_page):
    with open_page() as browser:
        colours = browser.execute_script(
            "return [...document.querySelectorAll('.plot')].flatMap(plot => plot.data)"
            ".filter(trace => trace.hoverinfo === 'text').map(trace => [trace.name, trace.line.color])"
        )
        looks = {}
        for name, colour in colours:
            looks.setdefault(name, set()).add(colour)
        assert len(looks) == 8
        assert all(len(found) == 1 for found in looks.values())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_can_be_read_everywhere(open_page, size, scheme):
    with open_page(size, scheme) as browser:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0], "only tables scroll sideways"
        plots = "return [...document.querySelectorAll('.plot .main-svg')].map(plot => plot.getBoundingClientRect().right)"
        assert max(browser.execute_script(plots)) <= size[0]
        colours = "const of = getComputedStyle(arguments[0]); return [of.color, of.backgroundColor]"
        text, background = (
            brightness(colour) for colour in browser.execute_script(colours, browser.find_element("tag name", "body"))
        )
        label = browser.find_element("css selector", ".plot .annotation-text")
        of_plot = brightness(browser.execute_script("return getComputedStyle(arguments[0]).fill", label))
        assert (background < 50) == (scheme == "dark")
        assert abs(text - background) > 150
        assert abs(of_plot - background) > 150
        sizes = (
            "return [...document.querySelectorAll('main p, main th, main td, summary')].filter(text => text.offsetParent)"
            ".map(text => parseFloat(getComputedStyle(text).fontSize))"
        )
        assert min(browser.execute_script(sizes)) >= 12


def brightness(colour):
    """Of ``rgb(...)``, from 0 to 255."""
    red, green, blue = (float(part) for part in colour.strip("rgba()").split(",")[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue
