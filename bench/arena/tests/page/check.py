"""results/report.html as its readers have it: in Chromium, with a pointer, a keyboard, a phone, and without scripts.

Makes a virtual environment below target/ and leaves screenshots beside it. Invariant: no claim is left out in silence; a
browser that is missing is a failure, with the command that installs it.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
WORKSPACE = HERE.parents[3]
PAGE = WORKSPACE / "results" / "report.html"
PLACE = WORKSPACE / "target" / "page"
REQUIREMENTS = HERE / "requirements.txt"

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
NO_BROWSER = "Chromium is needed and not here: apt-get install chromium-headless-shell"

DESKTOP, TABLET, PHONE = 1280, 768, 375


class Reader:
    """Somebody who has the page open; what the page asked for and complained of is kept."""

    def __init__(self, browser, width=DESKTOP, colours="light", scripts=True):
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=colours, java_script_enabled=scripts
        )
        self.page = self.context.new_page()
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(PAGE.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            assert set(self.asked) == {PAGE.as_uri()}, f"it asks for {self.asked}"
            assert not self.complaints, self.complaints
        self.context.close()

    def background(self):
        return self.page.evaluate("getComputedStyle(document.body).backgroundColor")

    def picture(self, name):
        self.page.screenshot(path=PLACE / f"{name}.png")


def column(table, number):
    """The numbers that the cells of a column begin with, from top to bottom; none for what is no number."""
    texts = table.locator(f"tbody tr > :nth-child({number})").all_text_contents()
    found = [re.match(r"[≥≤<> ]*([0-9][0-9,.]*)", text) for text in texts]
    return [one and float(one[1].replace(",", "")) for one in found]


def it_opens_with_the_answer(browser):
    with Reader(browser) as reader:
        assert reader.page.locator("main h2").first.text_content() == "The answer"
        assert reader.page.locator("#answer ~ .headline li").count() > 0
        assert reader.page.locator("#answer").bounding_box()["y"] < 800, "it is on the first screen"
        reader.picture("desktop")
        took = reader.page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
        print(f"it opened in {took:.0f} ms")


def a_filter_hides_what_is_not_chosen_everywhere(browser):
    with Reader(browser) as reader:
        page = reader.page
        page.locator("#controls summary").click()
        workloads = page.locator("fieldset", has=page.get_by_text("Workloads", exact=True))
        chosen = workloads.locator("input").first
        name = chosen.get_attribute("value")
        page.get_by_role("button", name="None: Workloads").click()
        assert page.locator("section.workload[data-workload]:visible").count() == 0
        chosen.check()
        shown = page.locator("[data-workload]:visible").all()
        assert shown and all(one.get_attribute("data-workload") == name for one in shown)
        left_out = page.locator("fieldset", has=page.get_by_text("Architectures", exact=True)).locator("input").first
        of_it = page.locator(f"[data-architecture='{left_out.get_attribute('value')}']")
        assert of_it.locator("visible=true").count() > 1
        left_out.uncheck()
        assert of_it.locator("visible=true").count() == 0
        assert page.locator("#shown").text_content().startswith("1 of ")
        reader.picture("filtered")
        page.get_by_role("button", name="All: Workloads").click()
        assert page.locator(f"section.workload[data-workload]:visible").count() > 1


def a_table_is_sorted_by_numbers_both_ways_and_words_come_last(browser):
    with Reader(browser) as reader:
        sorted_any_words = False
        for table in reader.page.locator("section.workload > .scroll table.data").all():
            headings = table.locator("thead th").all()
            for number, heading in enumerate(headings, 1):
                if number == 1 or heading.get_attribute("class"):
                    continue
                for order, sign in [("ascending", 1), ("descending", -1)]:
                    heading.locator("button").click()
                    assert heading.get_attribute("aria-sort") == order
                    values = column(table, number)
                    numbers = [value for value in values if value is not None]
                    assert numbers == sorted(numbers, key=lambda value: sign * value), values
                    assert values[: len(numbers)] == numbers, values
                    sorted_any_words |= len(numbers) < len(values)
                break
        assert sorted_any_words, "some cell holds a word"


def a_heading_sorts_from_the_keyboard_and_names_by_the_alphabet(browser):
    with Reader(browser) as reader:
        page = reader.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        table = page.locator("table.data").first
        heading = table.locator("thead th").first
        heading.locator("button").focus()
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "ascending"
        names = table.locator("tbody th").all_text_contents()
        assert len(names) > 1 and names == sorted(names), names


def colours_follow_the_system_until_they_are_chosen_and_the_choice_is_kept(browser):
    with Reader(browser) as light, Reader(browser, colours="dark") as dark:
        assert light.background() != dark.background()
        colours = light.page.locator("#colours")
        colours.select_option("dark")
        assert light.background() == dark.background()
        light.page.reload()
        assert light.background() == dark.background() and colours.input_value() == "dark"
        light.page.locator("figure.latency").first.scroll_into_view_if_needed()
        light.picture("dark")
        colours.select_option("light")
        assert light.background() != dark.background()


def what_lies_below_the_pointer_is_told(browser):
    with Reader(browser) as reader:
        tip, page = reader.page.locator("#tip"), reader.page
        page.locator("figure.heat td[class^=step]").first.hover()
        assert "times the lowest" in tip.text_content()
        page.locator("svg.bar").first.hover()
        assert tip.is_visible()
        page.locator("svg.curves").first.hover()
        assert "percentile" in tip.text_content() and tip.locator("tr").count() > 0
        reader.picture("hovering")
        page.keyboard.press("Escape")
        assert tip.is_hidden()
        page.locator("svg.curves").first.focus()
        page.keyboard.press("ArrowRight")
        first = tip.text_content()
        page.keyboard.press("ArrowRight")
        assert tip.is_visible() and tip.text_content() != first
        row = page.locator("section.workload", has=page.locator("svg.curves")).first
        row.locator("table.data tbody tr", has=page.locator("visible=true")).first.hover()
        assert row.locator(".curves.picking").count() == 1


def no_window_is_too_narrow(browser):
    for width in [PHONE, TABLET, DESKTOP]:
        with Reader(browser, width) as reader:
            wide = reader.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} px in a window of {width} px"
            if width == PHONE:
                reader.picture("phone")
                reader.page.locator("section.workload").first.scroll_into_view_if_needed()
                reader.picture("phone-table")


def without_scripts_all_is_there(browser):
    with Reader(browser) as reader, Reader(browser, scripts=False) as plain:
        for part in ["table", "tbody tr", "svg", ".cards li"]:
            there, wanted = (one.page.locator(f"main {part}").count() for one in (plain, reader))
            assert there == wanted > 0, part
        assert plain.page.locator("main table.data:visible").count() > 0
        assert plain.page.locator("#controls").is_hidden()
        assert plain.page.locator("thead button").count() == 0
        assert plain.page.locator("svg.bar > title").count() > 0
        plain.picture("without-scripts")


def everybody_can_use_it(browser):
    """What axe finds: names, roles, contrast, landmarks, tables."""
    from axe_playwright_python.sync_playwright import Axe

    for width, colours in [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")]:
        with Reader(browser, width, colours) as reader:
            for details in reader.page.locator("details").all():
                details.evaluate("one => { one.open = true; }")
            found = Axe().run(reader.page)
            assert len(found.response["passes"]) > 10
            assert found.violations_count == 0, found.generate_report()


CLAIMS = [
    it_opens_with_the_answer,
    a_filter_hides_what_is_not_chosen_everywhere,
    a_table_is_sorted_by_numbers_both_ways_and_words_come_last,
    a_heading_sorts_from_the_keyboard_and_names_by_the_alphabet,
    colours_follow_the_system_until_they_are_chosen_and_the_choice_is_kept,
    what_lies_below_the_pointer_is_told,
    no_window_is_too_narrow,
    without_scripts_all_is_there,
    everybody_can_use_it,
]


def prepare():
    """Installs what is pinned, once, and goes on in the Python that has it."""
    python, installed = PLACE / "venv" / "bin" / "python", PLACE / "requirements.txt"
    if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
        venv.create(PLACE / "venv", clear=True, with_pip=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--requirement", REQUIREMENTS], check=True)
        installed.write_text(REQUIREMENTS.read_text())
    if pathlib.Path(sys.prefix) != PLACE / "venv":
        os.execv(python, [python, __file__])


def main():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(NO_BROWSER)
    prepare()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root there is no sandbox, and the page is our own.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        for claim in CLAIMS:
            claim(browser)
            print(f"{claim.__name__.replace('_', ' ')}: yes")
        browser.close()
    print(f"{len(CLAIMS)} passed, 0 failed; screenshots are in {PLACE.relative_to(WORKSPACE)}/")


if __name__ == "__main__":
    main()
