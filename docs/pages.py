"""The sources of the site: staged notebooks with their outputs, a page a room, and the navigation."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from outputs import static_outputs, unlink
from plotly.offline import get_plotlyjs
from rooms import FOLDERS, ROOMS, folder_notebooks, folders_of, room_notebooks, title_of
from staging import add_note, link_notebooks, markdown, module_of, stage_notebook, write_changed

HERE = Path(__file__).parent
API = "api/covid_workbench/covid_workbench"
NOTES = {
    "explore": "Executed here on a tiny run, trained below. `covid-workbench lab RUN` opens it in JupyterLab on yours.",
    "studies": "Executed here with the parameters of its first code cell: seconds on the phantom, no results.",
}
EMBEDDED = '<script src="../_static/embedded.js"></script>'


@dataclass
class Site:
    "Where the notebooks are, where the page sources go, and the staged notebooks by their path below `nbs`."

    nbs: Path
    source: Path
    extra: Path
    staged: dict[str, dict] = field(default_factory=dict)

    @property
    def titles(self) -> dict[str, str]:
        return {name: title_of(self.nbs / name)[0] for name in self.staged}


def navigation(nbs: Path, front_door: bool = False) -> list[tuple[str, list[str]]]:
    "Captions of the sidebar with their pages, notebooks by their path below `nbs`; rooms are pages of their own."
    parts = []
    for folder in folders_of(nbs):
        title = FOLDERS.get(folder, (folder.replace("_", " ").capitalize(), ""))[0]
        parts.append((title, [f"{folder}/{path.name}" for path in folder_notebooks(nbs, folder)]))
        if folder == "explore":
            parts[-1][1].insert(0, "see_it")
    parts.append(("Rooms, as the data flows", [f"rooms/{room.name}" for room in ROOMS]))
    parts.append(("Reference", [*(["front_door"] if front_door else []), API, "contributing"]))
    return parts


def toctree(pages: list[str], *options: str) -> str:
    "A toctree of pages."
    names = [f"/{name.removesuffix('.ipynb')}" for name in pages]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def room_page(nbs: Path, name: str) -> str:
    "The page of a room: its sentence, and its notebooks with their subtitles."
    room = next(room for room in ROOMS if room.name == name)
    lines = [f"# {room.title}", "", f"> {room.sentence}", ""]
    notebooks = room_notebooks(nbs, name)
    for path in notebooks:
        title, subtitle = title_of(path)
        lines.append(f"- [{title}](/{path.name}): {subtitle}" if subtitle else f"- [{title}](/{path.name})")
    return "\n".join([*lines, "", toctree([path.name for path in notebooks], ":hidden:"), ""])


def stage_all(site: Site) -> None:
    "Read and stage every notebook."
    for path in sorted([*site.nbs.glob("*.ipynb"), *site.nbs.glob("*/*.ipynb")]):
        name = path.relative_to(site.nbs).as_posix()
        notebook = json.loads(path.read_text(encoding="utf-8"))
        site.staged[name] = stage_notebook(notebook)
        site.staged[name]["module"] = module_of(notebook)


def save_page(site: Site, name: str, number: int, page: str) -> str:
    "Store a saved page of a notebook; gives its address from that notebook's page."
    file = f"{re.sub(r'[^a-z0-9]+', '-', name.removesuffix('.ipynb').lower())}-{number}.html"
    write_changed(site.extra / "live" / file, page.replace("</body>", f"{EMBEDDED}</body>"))
    return f"{'../' * name.count('/')}live/{file}"


def write_notebook(site: Site, name: str, outputs: list[list[dict]]) -> None:
    "Write a staged notebook with its outputs, its note and its links."
    notebook = json.loads(json.dumps(site.staged[name]))
    module, titles, count = notebook.pop("module"), site.titles, iter(range(1, 1000))
    script = f"{'../' * name.count('/')}_static/plotly.min.js"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, made in zip(code, outputs):
        cell["outputs"] = static_outputs(made, lambda page: save_page(site, name, next(count), page), script)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = link_notebooks("".join(cell["source"]), titles)
    if module:
        add_note(notebook, f"Module [`{module}`](/api/covid_workbench/{module}.md)")
    elif name.partition("/")[0] in NOTES:
        add_note(notebook, NOTES[name.partition("/")[0]])
    if name == "index.ipynb":
        parts = navigation(site.nbs, (site.source / "front_door.md").exists())
        trees = [toctree(pages, ":hidden:", f":caption: {caption}") for caption, pages in parts]
        notebook["cells"].append(markdown("docs-navigation", "\n\n".join(trees)))
    write_changed(site.source / name, json.dumps(notebook, indent=1))


def write_examples(site: Site, folder: Path) -> None:
    "The saved pages of the examples, with plotly's script beside them instead of in each; and the front door's names."
    names = (folder / "front_door.md").read_text(encoding="utf-8")
    if names:
        write_changed(site.source / "front_door.md", names)
    else:
        (site.source / "front_door.md").unlink(missing_ok=True)
    for path in sorted(folder.glob("*.html")):
        page = path.read_text(encoding="utf-8").replace(
            f"<script>{get_plotlyjs()}</script>", '<script src="../_static/plotly.min.js"></script>'
        )
        script = EMBEDDED if path.stem == "explorer" else ""
        write_changed(site.extra / "live" / path.name, unlink(page).replace("</body>", f"{script}</body>"))


def write_pages(site: Site, outputs: dict[str, list[list[dict]]]) -> None:
    "Every source of the site; sources of notebooks that are gone are removed."
    for name in site.staged:
        write_notebook(site, name, outputs[name])
    for room in ROOMS:
        write_changed(site.source / "rooms" / f"{room.name}.md", room_page(site.nbs, room.name))
    for source, name in ((HERE / "see_it.md", "see_it.md"), (site.nbs.parent / "CONTRIBUTING.md", "contributing.md")):
        text = source.read_text(encoding="utf-8").replace("](nbs/images/", "](images/")
        write_changed(site.source / name, text)
    shutil.copytree(site.nbs / "images", site.source / "images", dirs_exist_ok=True)
    for path in site.source.rglob("*.ipynb"):
        if path.relative_to(site.source).as_posix() not in site.staged and "jupyter_execute" not in path.parts:
            path.unlink()
