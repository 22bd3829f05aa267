#!/usr/bin/env python3
"""Opens the pages of studies in a real browser: no error, no request, every row of a table is drawn.

    browser.py [--screenshots DIR] CORE_TESTS|PAGE.html...

CORE_TESTS makes pages of an invented study first. Each page is opened light and dark, narrow and wide,
with everything that is folded opened, and every unit of an axis chosen. Exits with 77 where there is no chromium.
"""
import argparse, base64, itertools, json, os, pathlib, shutil, subprocess, sys, tempfile, time

WIDTHS, SCHEMES = (400, 1000, 1400), ("light", "dark")

# Marks of each figure by the name of their layer, and rows of its table by kind and part.
COUNT = """(() => [...document.querySelectorAll('section')].filter(s => s.querySelector('.figure')).map(s => {
  const table = s.querySelector('.numbers table'), head = [...table.tHead.rows[0].cells].map(c => c.textContent);
  const rows = {};
  for (const column of ['kind', 'part'].map(n => head.indexOf(n)).filter(i => i >= 0))
    for (const r of table.tBodies[0].rows) { const k = r.cells[column].textContent; rows[k] = (rows[k] ?? 0) + 1; }
  const marks = {};
  for (const g of s.querySelectorAll('.figure svg g.role-mark'))
    for (const name of g.classList) {
      const found = /^([a-z]+)_marks$/.exec(name);
      if (found) marks[found[1]] = (marks[found[1]] ?? 0) + g.querySelectorAll(':scope > path, :scope > text, :scope > line').length;
    }
  const svg = s.querySelector('.figure svg');
  return {name: s.id, rows, marks, width: svg ? svg.getBoundingClientRect().width : 0};
}))()"""
READY = "[...document.querySelectorAll('.figure')].every(f => f.querySelector('svg'))"
OPEN = "document.querySelectorAll('main details').forEach(d => { if (!d.closest('.vega-embed')) d.open = true; })"


class Browser:
    """A browser at the other end of two pipes; messages are JSON with a zero byte after each."""

    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="nfscale-browser-")
        to_read, self.to = os.pipe()
        self.back, from_write = os.pipe()

        def places():  # the browser reads from 3 and writes to 4
            a, b = os.dup(to_read), os.dup(from_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             f"--user-data-dir={self.profile}", "about:blank"],
            preexec_fn=places, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def receive(self):
        while b"\0" not in self.buffer:
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def wait(self, expression, seconds=60):
        end = time.time() + seconds
        while not self.value(expression):
            if time.time() > end:
                return False
            time.sleep(0.1)
        return True

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


def trouble(events, page):
    """What a page said, asked for, or did wrong."""
    for e in events:
        method, p = e.get("method"), e.get("params", {})
        if method == "Runtime.exceptionThrown":
            yield "exception: " + json.dumps(p["exceptionDetails"])[:400]
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
            yield f"console {p['type']}: " + json.dumps(p["args"])[:400]
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            yield "log: " + p["entry"]["text"]
        elif method == "Network.requestWillBeSent":
            url = p["request"]["url"]
            if url.split("#")[0] != page.as_uri() and not url.startswith(("data:", "blob:")):
                yield "request: " + url


def look(browser, page, width, scheme, screenshots):
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", url=page.as_uri())
    wrong = []
    if not browser.wait("document.readyState === 'complete' && " + READY):
        wrong.append("figures are missing after a minute")
    height = browser.value("document.documentElement.scrollHeight")
    if screenshots:
        shot(browser, width, height, screenshots / f"{page.stem}-{scheme}-{width}.png")
    browser.value(OPEN)
    time.sleep(0.3)
    figures = browser.value(COUNT)
    for f in figures:
        named = set(f["rows"]) & set(f["marks"])
        if not named:
            wrong.append(f"{f['name']}: no marks that bear the name of a kind: {f['marks']}")
        for kind in named:
            if f["rows"][kind] != f["marks"][kind]:
                wrong.append(f"{f['name']}: {f['marks'][kind]} marks for {f['rows'][kind]} rows of {kind}")
        if not 0 < f["width"] <= width:
            wrong.append(f"{f['name']}: {f['width']} px in a page of {width}")
    # Every unit that a figure may be drawn in shows every mark.
    for unit in browser.value("[...document.querySelectorAll('.vega-bind select option')].map(o => o.value)"):
        browser.value(f"document.querySelectorAll('.vega-bind select').forEach(s => {{ s.value = '{unit}'; s.dispatchEvent(new Event('change')); }})")
        time.sleep(0.3)
        for f in browser.value(COUNT):
            for kind in set(f["rows"]) & set(f["marks"]):
                if f["rows"][kind] != f["marks"][kind]:
                    wrong.append(f"{f['name']} in {unit}: {f['marks'][kind]} marks for {f['rows'][kind]} rows of {kind}")
        if screenshots and not unit.isdigit():
            box = browser.value("(() => { const b = document.querySelector('.vega-bind').closest('section').getBoundingClientRect();"
                                f" return [0, b.y + scrollY, {width}, b.height]; }})()")
            shot(browser, width, box[3], screenshots / f"{page.stem}-{scheme}-{width}-unit-{unit}.png", box)
    if (wide := browser.value("document.documentElement.scrollWidth")) > width:
        wrong.append(f"the page is {wide} px wide in a window of {width}")
    if screenshots:
        for f in figures:
            box = browser.value(f"(() => {{ const s = document.getElementById('{f['name']}'), top = s.getBoundingClientRect().y;"
                                f"return [0, top + scrollY, {width}, s.querySelector('.numbers').getBoundingClientRect().y - top]; }})()")
            shot(browser, width, box[3], screenshots / f"{page.stem}-{scheme}-{width}-{f['name']}.png", box)
    return wrong + list(dict.fromkeys(trouble(browser.events, page))), len(figures)


def shot(browser, width, height, path, box=None):
    x, y, w, h = box or (0, 0, width, height)
    data = browser.call("Page.captureScreenshot", captureBeyondViewport=True,
                        clip={"x": x, "y": y, "width": w, "height": min(h, 6000), "scale": 1})["data"]
    path.write_bytes(base64.b64decode(data))


def pages_of(arguments, folder):
    pages = []
    for name in map(pathlib.Path, arguments):
        if name.suffix == ".html":
            pages.append(name.resolve())
            continue
        subprocess.run([name, "--gtest_filter=Report.*"], check=True, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, NFSCALE_KEEP_REPORT=str(folder / "page.html")))
        pages += sorted(folder.glob("page.html*"))
    return pages


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("pages", nargs="+")
    args = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        print("skipped: there is no chromium on this machine")
        return 77
    if args.screenshots:
        args.screenshots.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        pages, browser = pages_of(args.pages, pathlib.Path(folder)), Browser(program)
        try:
            for page, width, scheme in itertools.product(pages, WIDTHS, SCHEMES):
                found, figures = look(browser, page, width, scheme, args.screenshots)
                print(f"{page.name} {scheme} {width} px: {figures} figures, {len(found)} faults")
                for text in found:
                    print("  " + text)
                wrong += len(found)
        finally:
            browser.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
