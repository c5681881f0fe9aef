"""Links in an open explorer, as pasted into the address: A, B, A again, and one that cannot be followed."""

from test_attention_explorer import opened


def copied(lab) -> str:
    "What the button copies."
    page = lab.page
    page.evaluate("navigator.clipboard.writeText('')")
    page.locator("button[data-key='link']").click()
    for _ in range(300):
        if "#cw=" in (link := page.evaluate("navigator.clipboard.readText()")):
            return link
        page.wait_for_timeout(100)
    raise AssertionError("no link was copied")


def paste(page, link: str) -> None:
    "As the address of the open page: its end alone changes."
    page.evaluate("link => { location.href = link; }", link)


def test_links_are_followed_in_an_open_explorer(lab, runs):
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')")
    first = copied(lab)
    page.locator(".cw-switch").first.click()
    page.locator(".cw-said", has_text="→").wait_for(timeout=30000)
    lab.idle()
    second = copied(lab)
    assert first != second and first.split("#")[0] == second.split("#")[0]
    for link in (first, second, first, first, second):
        paste(page, link)
        off = "[data-switch][aria-checked='false']"
        page.locator(off).first.wait_for(state="attached" if link == second else "detached", timeout=30000)
        lab.idle()
        page.wait_for_function("() => !location.href.includes('#cw=')", timeout=30000)
        assert copied(lab) == link
        page.locator("button[data-order='reversed'][role='radio']").click()  # the reader's own step
        page.locator("button[data-order='reversed'][aria-checked='true']").wait_for(timeout=30000)
        lab.idle()
    before = page.locator(".cw-where").inner_text(), copied(lab)
    paste(page, first.split("#cw=")[0] + "#cw=%7B%22version%22%3A1%7D")
    page.locator(".cw-message", has_text="was not followed, the view is as it was").wait_for(timeout=30000)
    assert before == (page.locator(".cw-where").inner_text(), copied(lab))
    paste(page, first.split("#cw=")[0] + "#cw=100%")  # no address at all
    page.locator(".cw-message", has_text="is not a view").wait_for(timeout=30000)
