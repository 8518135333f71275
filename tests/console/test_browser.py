"""What people do with the console, in a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Locator, Page, expect

from pharia_kernel.config.authorization import hash_api_key
from tests.console.conftest import ROOT
from tests.support.kernel import KernelProcess, temporary_home, until

SCREENSHOTS = ROOT / "docs" / "images"
expect.set_options(timeout=30_000)


async def open_skill(page: Page, kernel: KernelProcess, path: str) -> None:
    await page.goto(f"{kernel.url}#/skills/{path}")
    await expect(page.get_by_role("heading", level=1)).to_have_text(path)
    await expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()


async def run(page: Page) -> None:
    await page.get_by_role("button", name="Run", exact=True).click()


def result(page: Page) -> Locator:
    return page.get_by_role("region", name="Result")


async def ended(page: Page, state: str) -> Locator:
    """The result, once it is complete."""
    shown = result(page)
    await expect(shown.locator("h2 .badge")).to_have_text(state)
    await expect(page.get_by_role("region", name="Runs in this tab")).to_be_visible()
    return shown


async def write_json(page: Page, value: object) -> None:
    switch = page.get_by_role("radio", name="JSON")
    if await switch.count():
        await switch.check()
    await page.get_by_label("Input as JSON").fill(json.dumps(value))


async def screenshot(page: Page, name: str) -> None:
    """For the documentation, when `make screenshots` asks for it."""
    if os.environ.get("WRITE_SCREENSHOTS"):
        SCREENSHOTS.mkdir(exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"console-{name}.png", full_page=True)


# --- what there is --------------------------------------------------------------------------------


async def test_skills_and_their_states(page: Page, kernel: KernelProcess) -> None:
    await page.goto(kernel.url)
    skills = page.get_by_role("region", name="Namespace dev")
    row = skills.get_by_role("row").filter(
        has=page.get_by_role("link", name="dev/greet", exact=True)
    )
    await expect(row).to_contain_text("ready")
    await expect(row).to_contain_text("function")
    await expect(page).to_have_title("Skills · PhariaKernel console")


async def test_a_broken_namespace_says_what_is_wrong(page: Page, kernel: KernelProcess) -> None:
    await page.goto(kernel.url)
    broken = page.get_by_role("region", name="Namespace broken")
    await expect(broken.locator("h2")).to_contain_text("broken")
    await expect(broken).to_contain_text("nme")
    await expect(broken).to_contain_text("the operator of the kernel")
    await screenshot(page, "skills")


# --- runs -----------------------------------------------------------------------------------------


async def fill_order(page: Page) -> None:
    await page.get_by_label("customer").fill("Ada")
    await page.get_by_label("size").select_option("large")
    await page.get_by_label("city").fill("London")
    await page.get_by_role("button", name="Add to toppings").click()
    await page.get_by_label("toppings 1").fill("olives")
    await page.get_by_label("Form of payment").select_option("Cash")
    await page.get_by_label("tip").fill("1.5")


async def test_a_form_with_everything(page: Page, kernel: KernelProcess) -> None:
    await open_skill(page, kernel, "dev/order")
    await fill_order(page)
    await screenshot(page, "form")
    await run(page)
    shown = await ended(page, "done")
    received = json.loads(await shown.locator("pre.output").inner_text())["received"]
    assert received == {
        "customer": "Ada",
        "amount": 2,
        "size": "large",
        "gift": False,
        "address": {"city": "London", "street": None},
        "toppings": ["olives"],
        "payment": {"kind": "cash", "tip": 1.5},
        "note": None,
    }
    await expect(shown.get_by_role("region", name="Log of the skill")).to_contain_text(
        "an order of Ada"
    )
    timeline = shown.get_by_role("region", name="Timeline")
    spans = await timeline.locator("button.span").all_inner_texts()
    assert spans[0].startswith("POST /v1/skills/{namespace}/{name}/run")
    assert {"check_permissions", "load_skill", "skill_execution"} <= set(spans)


async def test_the_form_and_json_are_the_same_input(page: Page, kernel: KernelProcess) -> None:
    await open_skill(page, kernel, "dev/order")
    await page.get_by_label("customer").fill("Ada")
    await page.get_by_role("radio", name="JSON").check()
    written = json.loads(await page.get_by_label("Input as JSON").input_value())
    assert written["customer"] == "Ada"
    await write_json(page, {**written, "customer": "Grace", "toppings": ["a", "b"]})
    await page.get_by_role("radio", name="Form").check()
    await expect(page.get_by_label("customer")).to_have_value("Grace")
    await expect(page.get_by_label("toppings 2")).to_have_value("b")
    await page.get_by_role("button", name="Remove toppings 1").click()
    await expect(page.get_by_label("toppings 1")).to_have_value("b")


async def test_what_is_invalid_is_not_sent(page: Page, kernel: KernelProcess) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/run" in request.url else None)
    await open_skill(page, kernel, "dev/order")
    await page.get_by_label("amount").fill("13")
    await run(page)
    summary = page.get_by_role("alert")
    await expect(summary).to_be_focused()
    links = await summary.get_by_role("link").all_inner_texts()
    assert {link.split(":")[0] for link in links} >= {"customer", "amount", "size", "address/city"}
    await screenshot(page, "validation")
    await summary.get_by_role("link", name="address/city").click()
    city = page.get_by_label("city")
    await expect(city).to_be_focused()
    await expect(city).to_have_attribute("aria-invalid", "true")
    await expect(city).to_have_accessible_description(re.compile("required"))
    assert sent == []
    await write_json(page, None)
    await page.get_by_label("Input as JSON").fill("{")
    await run(page)
    await expect(page.get_by_role("alert")).to_contain_text("This is not JSON")
    assert sent == []


async def test_a_stream_with_tools(page: Page, kernel: KernelProcess) -> None:
    await open_skill(page, kernel, "dev/agent")
    await write_json(page, {"a": 2, "b": 3, "model": "tiny"})
    await run(page)
    shown = await ended(page, "done")
    await expect(shown.locator(".message .text")).to_have_text("2 + 3 is 5. ")
    await expect(shown.get_by_text("Two numbers have to be added.")).to_be_visible()
    tools = await shown.locator(".tools li").all_inner_texts()
    assert tools[0] == "add done"
    assert tools[1].startswith("saboteur failed")
    await expect(shown.locator("dd").first).to_have_text(re.compile(r"^[1-9]\d* in, [1-9]\d* out$"))
    timeline = shown.get_by_role("region", name="Timeline")
    for span in ("execute_tool add", "execute_tool saboteur", "chat"):
        await expect(timeline.get_by_role("button", name=span, exact=False).first).to_be_visible()
    await timeline.get_by_role("button", name="chat").click()
    await expect(timeline).to_contain_text("gen_ai.usage.output_tokens")
    await expect(timeline).not_to_contain_text("gen_ai.input.messages")
    await screenshot(page, "stream")


async def test_a_stream_that_says_what_it_takes_has_a_form(
    page: Page, kernel: KernelProcess
) -> None:
    await page.goto(kernel.url)
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="dev/told", exact=True))
    await expect(row).to_contain_text("Says something twice.")
    await expect(row).not_to_contain_text("Whatever")
    await open_skill(page, kernel, "dev/told")
    await expect(page.get_by_text("Says something twice.")).to_be_visible()
    await run(page)
    await expect(page.get_by_role("alert")).to_contain_text("word")
    await page.get_by_label("word").fill("hm")
    await run(page)
    shown = await ended(page, "done")
    await expect(shown.locator(".message .text")).to_have_text(["text", "text"])


async def test_output_arrives_while_the_skill_runs_and_a_run_can_be_cancelled(
    page: Page, kernel: KernelProcess
) -> None:
    await open_skill(page, kernel, "dev/infinite_stream")
    await write_json(page, None)
    await run(page)
    text = result(page).locator(".message .text")
    await expect(text).not_to_be_empty()
    await expect(result(page)).to_have_attribute("aria-busy", "true")
    await expect(page.get_by_test_id("announcement")).to_have_text("Running")
    await page.get_by_role("button", name="Cancel").click()
    await ended(page, "cancelled")
    await expect(page.get_by_test_id("announcement")).to_have_text("Cancelled")
    await kernel.idle()


@pytest.mark.parametrize("skill", ["user_error", "stream_error", "trap"])
async def test_errors_as_they_are(page: Page, kernel: KernelProcess, skill: str) -> None:
    await open_skill(page, kernel, f"dev/{skill}")
    await run(page)
    shown = await ended(page, "failed")
    problem = shown.locator(".problem")
    streams = skill == "stream_error"
    told = (
        (await kernel.stream(skill, {})).error if streams else (await kernel.run(skill, {})).json()
    )
    await expect(problem.get_by_role("heading")).to_have_text(told["title"])
    await expect(problem.locator(".detail")).to_have_text(told["detail"])
    await expect(problem).to_contain_text("the author of the skill")
    await expect(problem).to_contain_text("run_id")
    await expect(page.get_by_test_id("announcement")).to_contain_text("Failed")
    await screenshot(page, "error")


async def test_copied_as_curl_it_does_the_same(
    page: Page, context: BrowserContext, kernel: KernelProcess
) -> None:
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await open_skill(page, kernel, "dev/greet")
    await page.get_by_label("name").fill("O'Neil $HOME")
    await page.get_by_role("button", name="Copy as curl").click()
    await expect(page.get_by_text("Copied")).to_be_visible()
    command = await page.evaluate("navigator.clipboard.readText()")
    shell = ["bash", "-c", f"{command} -s"]
    answer = await asyncio.to_thread(subprocess.run, shell, capture_output=True, timeout=60)
    assert json.loads(answer.stdout) == "Hello O'Neil $HOME"


async def test_the_kernel_keeps_runs(page: Page, kernel: KernelProcess) -> None:
    await kernel.run("greet", {"name": "Somebody else"})
    await page.goto(f"{kernel.url}#/runs")
    row = page.get_by_role("row").filter(has_text="dev/greet").first
    await expect(row).to_contain_text("ok")
    await screenshot(page, "runs")
    await row.get_by_role("link").click()
    await expect(page.get_by_role("region", name="Timeline")).to_contain_text("skill_execution")
    await expect(page.locator("main")).not_to_contain_text("Somebody else")


# --- who may --------------------------------------------------------------------------------------

KEYS = {"deployer": ["run", "deploy"], "runner": ["run"]}


def _key(name: str) -> str:
    return f"pk_{name}-key"


async def test_a_token_is_asked_for_and_kept_in_the_tab(
    page: Page, context: BrowserContext, components: dict[str, Path]
) -> None:
    with temporary_home(engines=1) as home:
        home.deploy("greet", components["greet"])
        with (home.folder / "config.toml").open("a") as config:
            for name, permissions in KEYS.items():
                config.write(
                    f'\n[api-keys.{name}]\nhash = "{hash_api_key(_key(name))}"\n'
                    f'permissions = {json.dumps(permissions)}\nnamespaces = ["dev"]\n'
                )
        async with home.running() as kernel:
            await page.goto(kernel.url)
            dialog = page.get_by_role("dialog", name="Bearer token")
            await expect(dialog.get_by_label("Token")).to_be_focused()
            await screenshot(page, "token")
            await dialog.get_by_label("Token").fill("pk_wrong")
            await dialog.get_by_role("button", name="Use").click()
            await expect(page.get_by_text("Bearer token invalid")).to_be_visible()
            for name in ("runner", "deployer"):
                await _use_token(page, _key(name))
                await expect(page.get_by_role("link", name="dev/greet", exact=True)).to_be_visible()
            await page.get_by_role("link", name="dev/greet", exact=True).click()
            await page.get_by_label("name").fill("Ada")
            await run(page)
            await expect((await ended(page, "done")).locator("pre.output")).to_have_text(
                "Hello Ada"
            )
            await expect(result(page).get_by_role("region", name="Timeline")).to_be_visible()
            kept = await page.evaluate("[localStorage.length, Object.values(sessionStorage)]")
            assert kept == [0, [_key("deployer")]]
            home.deploy("greet", components["sleeper"])
            await expect(page.get_by_label("seconds")).to_be_visible()
            await page.get_by_role("radio", name="JSON").check()
            written = await page.get_by_label("Input as JSON").input_value()
            assert json.loads(written) == {"name": "Ada"}
            other = await context.new_page()
            await other.goto(kernel.url)
            await expect(other.get_by_role("dialog", name="Bearer token")).to_be_visible()
            await other.close()
    # It is gone.
    await expect(page.get_by_role("heading", name="No answer")).to_be_visible()


async def _use_token(page: Page, token: str) -> None:
    dialog = page.get_by_role("dialog", name="Bearer token")
    if not await dialog.is_visible():
        await page.get_by_role("button", name=re.compile("Token")).click()
    await dialog.get_by_label("Token").fill(token)
    await dialog.get_by_role("button", name="Use").click()
    await expect(dialog).to_be_hidden()


# --- for everybody --------------------------------------------------------------------------------


async def test_with_the_keyboard_alone(page: Page, kernel: KernelProcess) -> None:
    await page.goto(kernel.url)
    await expect(page.get_by_role("region", name="Namespace dev")).to_be_visible()
    await _tab_to(page, "Skip to the content")
    await page.keyboard.press("Enter")
    await _tab_to(page, "dev/greet")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await expect(page.get_by_label("name")).to_be_visible()
    await _tab_to(page, id="field-%2Fname")
    await page.keyboard.type("Ada")
    await _tab_to(page, "Run")
    await page.keyboard.press("Enter")
    await expect((await ended(page, "done")).locator("pre.output")).to_have_text("Hello Ada")
    await page.get_by_label("name").focus()
    await page.keyboard.press("Control+a")
    await page.keyboard.type("Grace")
    await page.keyboard.press("Control+Enter")
    await expect(result(page).locator("pre.output")).to_have_text("Hello Grace")


async def _tab_to(page: Page, text: str = "", *, id: str = "") -> None:
    """Press Tab until the element with that text or id has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused: dict[str, str] = await page.evaluate(
            "(({innerText, id}) => ({text: innerText.trim(), id}))(document.activeElement)"
        )
        if focused["id"] == id if id else focused["text"] == text:
            return
    raise AssertionError(f"{text or id} can't be reached with the Tab key")


PAGES = ["", "#/skills/dev/order", "#/runs"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessible(page: Page, kernel: KernelProcess, axe: str, scheme: Any) -> None:
    await page.emulate_media(color_scheme=scheme)
    await kernel.run("greet", {"name": "Ada"})
    for address in PAGES:
        await page.goto(f"{kernel.url}{address}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await expect(page.locator("main table, main form").first).to_be_visible()
        await _check(page, axe)
    await open_skill(page, kernel, "dev/order")
    await run(page)
    await expect(page.get_by_role("alert")).to_be_visible()
    await _check(page, axe)
    await fill_order(page)
    await run(page)
    await ended(page, "done")
    await page.locator("button.span").first.click()
    await _check(page, axe)
    await page.get_by_role("button", name="Token", exact=True).click()
    await _check(page, axe)


async def _check(page: Page, axe: str) -> None:
    """No violations of WCAG 2.2 AA, and no others that are serious."""
    await page.evaluate(f"() => {{ {axe}\n; }}")
    found: list[dict[str, Any]] = (await page.evaluate("axe.run()"))["violations"]
    levels = {"wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"}
    bad = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found
        if violation["impact"] in ("serious", "critical") or levels & set(violation["tags"])
    ]
    assert not bad


async def test_on_a_narrow_screen_nothing_is_cut_off(page: Page, kernel: KernelProcess) -> None:
    """WCAG 1.4.10: no scrolling in two directions at a width of 320 pixels."""
    await page.set_viewport_size({"width": 320, "height": 700})
    for address in PAGES:
        await page.goto(f"{kernel.url}{address}")
        await expect(page.locator("main table, main form").first).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320


async def test_spans_of_the_author_s_process_join_the_run(
    page: Page, kernel: KernelProcess
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    answer = await kernel.run(
        "greet", {"name": "Ada"}, headers={"traceparent": f"00-{trace}-{parent}-01"}
    )
    assert answer.status_code == 200

    async def kept() -> list[dict[str, Any]]:
        runs = await kernel.client.get("/v1/runs", params={"trace_id": trace})
        return [run for run in runs.json() if run["outcome"]]

    (run,) = await until(kept, "the run has ended")
    began = int(run["began"] * 1e9)
    span = {
        "traceId": trace,
        "spanId": parent,
        "name": "my test",
        "kind": 3,
        "startTimeUnixNano": str(began - 10_000_000),
        "endTimeUnixNano": str(began + 900_000_000),
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "author"}}]}
    scope = {"spans": [span]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
    assert (await kernel.client.post("/v1/traces", json=body)).status_code == 200
    await page.goto(f"{kernel.url}#/runs/{run['id']}")
    spans = page.get_by_role("region", name="Timeline").locator("button.span")
    await expect(spans.first).to_have_text("my test author")
    await expect(spans.nth(1)).to_contain_text("POST /v1/skills")
