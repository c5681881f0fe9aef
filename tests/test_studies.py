"""Studies: grids, what a cell may do wrong, kill and resume, the same through threads and through Dask, the report."""

import json
import random
import signal
import time

import pytest
from conftest import contents, shell
from studies_kit import TINY_STUDY, ablate, finished_results, toy_study, write_study

from covid_workbench.errors import StorageError
from covid_workbench.evaluation.detection import SEGMENTATION, ap_rule
from covid_workbench.models.rois import RANKINGS
from covid_workbench.studies import state as state_module
from covid_workbench.studies.cell import Caller, execute_cell
from covid_workbench.studies.display import status_lines
from covid_workbench.studies.folder import StudyFolder
from covid_workbench.studies.formats import table_frame, table_html, table_latex
from covid_workbench.studies.prepare import prepare_study
from covid_workbench.studies.report import write_report
from covid_workbench.studies.runner import run_cells
from covid_workbench.studies.shipped import STUDIES
from covid_workbench.studies.study import SIZES, Study, read_study
from covid_workbench.studies.tables import fill_table


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A tiny study that nobody disturbed, run by threads, two cells at a time."
    folder = tmp_path_factory.mktemp("study")
    done = ablate(write_study(folder, TINY_STUDY), folder / "out", "--workers", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "out"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_are_sound(name, size):
    study = STUDIES[name]
    cells = study.cells(size, seeds=2)
    assert len({cell.name for cell in cells}) == len(cells) == 2 * len(study.cells(size))
    for table in study.tables:  # every table has rows, every printed name is one of its rows'
        rows = [cell for cell in cells if all(axis in cell.labels for axis in table.rows)]
        assert rows
        if name != "tables-1-4":
            named = {cell.labels[table.rows[0]] for cell in rows} | {
                ", ".join(cell.labels[axis] for axis in table.rows) for cell in rows
            }
            assert set(table.printed) <= named


def test_tables_1_4_has_every_published_row():
    from covid_workbench.evaluation.published import published_figures
    from covid_workbench.studies.shipped import PRINTED

    ours = {
        (PRINTED.get(cell.labels.get("baseline", ""), cell.settings["model"]), cell.settings["backbone"])
        for cell in STUDIES["tables-1-4"].cells("paper")
    }
    rows = published_figures().query("source == 'lstm-attention-2022'")
    assert set(zip(rows["model"], rows["backbone"])) <= ours


def finish(cell, detection, classification=None, **more):
    "A finished cell with these metrics."
    (cell.folder / "run").mkdir()
    (cell.folder / "run" / "metrics.json").write_text(
        json.dumps({"parameters": 1, "test": {"classification": classification, "detection": detection} | more})
    )
    (cell.folder / "state.json").write_text(json.dumps({"status": "finished", "attempt": 1, "spent": 1}))


def ap_of(*classes, ap50, **more):
    row = {
        "ap50": ap50,
        "ap75": ap50 / 2,
        "map50_95": ap50 / 2,
        "ar100": ap50,
        "ceiling_ap50": 1.0,
        "n_truth": 9,
        "n_predictions": 9,
    }
    return (
        {name: row for name in classes}
        | {"headline": row | {"rule": ap_rule(classes)}, "merged": row | {"rule": "lesions merged", "ap50": ap50 + 0.1}}
        | more
    )


@pytest.mark.parametrize("finished", [False, True])
def test_aps_of_different_things_are_in_columns_apart(tmp_path, finished):
    "Tables I and III in size paper: affinity finds merged lesions, the others tell ground glass from consolidation."
    folder = prepare_study(STUDIES["tables-1-4"], tmp_path / "out", size="paper")
    if finished:
        for number, cell in enumerate(folder.cells):
            if cell.cell.settings["model"] != "classifier":
                names = [name for name in cell.experiment().objects.names if name != "lung"]
                finish(cell, ap_of(*names, ap50=0.3 + number / 100))
    tables = {
        table.title[:9]: fill_table(StudyFolder.open(folder.folder), table) for table in STUDIES["tables-1-4"].tables
    }
    first, third = tables["Table I: "], tables["Table III"]
    assert set(third.rules) == {"GGO, consolidation (mean)"} and third.columns == SEGMENTATION
    assert first.rules == ("lesions merged", *["GGO, consolidation (mean)"] * 2)
    for name in SEGMENTATION[:3]:
        apart = {rule: [figures[f"{name} of {rule}"] for _, figures, _ in first.rows] for rule in first.rules}
        assert name not in first.columns
        for (
            rule,
            figures,
        ) in apart.items():  # a figure stands in the column of its own rule alone, the printed cell beside it
            assert [figure.mean is not None for figure in figures] == [finished and own == rule for own in first.rules]
            assert not any(figure.published for figure, own in zip(figures, first.rules) if own != rule)
    assert "AP@0.5 of lesions merged" not in first.best and ("AP@0.5 merged" in first.best) == finished
    text, page = table_html(first), table_latex(first)
    assert (
        "count different lesions" in text
        and "another rule" in text
        and "another rule" in page
        and "CNCB-NCOV segmentation test, 100" in text
    )
    assert "count different lesions" not in table_html(third) and "another rule" in table_html(third)
    assert list(table_frame(first)["AP of"]) == list(first.rules)
    assert not tables["Table II:"].notes or "AP" not in "".join(tables["Table II:"].notes)


def test_the_released_rule_is_in_the_table_of_the_protocol(tmp_path):
    folder = prepare_study(STUDIES["protocol"], tmp_path / "out")
    chosen = {cell.name: cell for cell in folder.cells if cell.name in ("default", "ap_rule_reference")}
    finish(chosen["default"], ap_of("lesion", ap50=0.4))
    finish(
        chosen["ap_rule_reference"],
        ap_of("lesion", ap50=0.4, reference={"ap50": 0.6, "ap75": 0.5, "map50_95": 0.45, "ceiling_ap50": 1.0}),
    )
    filled = fill_table(StudyFolder.open(folder.folder), STUDIES["protocol"].tables[0])
    rows = {labels[0]: figures for labels, figures, _ in filled.rows}
    assert (
        rows["ap_rule=reference"]["AP@0.5 (released rule)"].mean == 0.6
        and rows["default"]["AP@0.5 (released rule)"].mean is None
    )
    assert rows["ap_rule=reference"]["AP@0.5"].mean == rows["default"]["AP@0.5"].mean == 0.4 and "0.600" in table_html(
        filled
    )


def test_transfer_goes_to_scanners_of_its_own():
    from covid_workbench.data.description import CLASS_NAMES

    for size in SIZES:
        cells = [(cell, cell.experiment("a run")) for cell in STUDIES["transfer"].cells(size)]
        here, there = (
            {
                number
                for cell, experiment in cells
                if ("transfer" in cell.labels) == far
                for number in experiment.data.phantom_scanners
            }
            for far in (False, True)
        )
        assert here and there and not here & there
        for cell, experiment in cells:
            how, two = cell.labels.get("transfer", ""), ("Normal", "COVID-19")
            assert (experiment.one_shot.classes, experiment.data.relabel) == (
                (two, ("CP=Normal",)) if how else (CLASS_NAMES, ())
            )
            assert (how in ("as it is", "fine-tuned")) == (cell.after == experiment.one_shot.model) and (
                experiment.training.epochs == 0 and experiment.training.keep_classes
            ) == (how == "as it is")
            assert how != "fine-tuned" or experiment.training.epochs == 10
        models = [cell.labels["model"] for cell, _ in cells if cell.labels.get("transfer") == "trained there"]
        assert models == ["attention", "lstm2", "affinity", "classifier"]


def test_printed_figures_stand_where_they_belong(tmp_path):
    "Affinity's slices beside its test set, not beside the rest of the training slices; iCTCF beside the second source."
    tables = {}
    for name in ("affinity", "transfer"):
        folder = prepare_study(STUDIES[name], tmp_path / name)
        tables |= {table.title: fill_table(folder, table) for table in STUDIES[name].tables}
    printed = {labels: figures["weighted F1"] for labels, figures, _ in tables["Affinity: slices"].rows}
    assert (
        printed["16",].published == 0.9737
        and printed["16",].published_on == "COVIDx-CT test, 21,192"
        and printed["32",].published is None
    )
    assert "measured on COVIDx-CT test, 21,192 images" in table_html(tables["Affinity: slices"])
    second = {labels: figures for labels, figures, _ in tables["Second source, two classes"].rows}
    assert (
        second["lstm2", "fine-tuned"]["weighted F1"].published == 0.9841
        and second["affinity", "fine-tuned"]["sensitivity COVID-19"].published == 0.9935
    )
    assert second["classifier", "trained there"]["sensitivity Normal"].published == 0.8547
    assert all(
        figure.published is None
        for labels, figures in second.items()
        if labels[1] == "as it is" or labels[0] == "attention"
        for figure in figures.values()
    )
    assert {figure.published_on for figures in second.values() for figure in figures.values()} == {
        "",
        "iCTCF-CT test, 12,976",
    }


def test_orders_say_what_they_cannot_decide(tmp_path):
    assert STUDIES["ranking"].notebook == "orders"
    folder = prepare_study(STUDIES["ranking"], tmp_path / "out")
    scores = {"weighted_f1": 0.7, "accuracy": 0.7, "classes": {}}
    orders = {"trained": "distance", "named": {name: 0.6 for name in RANKINGS}, "random": [0.5, 0.7], "slices": 230}
    finish(folder.cells[0], None, scores, orders=orders)
    filled = fill_table(StudyFolder.open(folder.folder), STUDIES["ranking"].tables[0])
    first = filled.rows[0][1]
    assert [
        first[name].mean
        for name in ("weighted F1", "F1, order raster", "F1, random orders: lowest", "F1, random orders: highest")
    ] == [0.7, 0.6, 0.5, 0.7]
    assert "on 230 test slices" in table_html(filled) and "cannot decide" in table_html(filled)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"axes": {"modle": ["lstm2"]}}, "did you mean 'model'"),
        ({"axes": {"model": ["lstm9"]}}, "lstm9"),
        ({"axes": {"roi_batch": [4, 1]}}, "roi_batch1"),
        ({"grid": {}}, "axes are missing"),
        ({"axes": {"model": ["lstm2"]}, "notebook": "two_runs"}, "two_runs"),
    ],
)
def test_a_wrong_study_starts_nothing(tmp_path, command, wrong, says):
    path = write_study(tmp_path, {"name": "wrong"} | wrong)
    code, _, error = command("ablate", path, "--out", tmp_path / "out", "--no-estimate")
    assert code == 2 and says in error and not (tmp_path / "out").exists(), error


def test_a_notebook_without_the_parameters_is_refused(tmp_path, command):
    path = toy_study(tmp_path, [0])
    notebook = (tmp_path / "toy.ipynb").read_text()
    (tmp_path / "toy.ipynb").write_text(notebook.replace("shared = ", "share = "))
    code, _, error = command("ablate", path, "--out", tmp_path / "out", "--no-estimate")
    assert code == 2 and "has no parameter 'shared', did you mean 'share'?" in error and not (tmp_path / "out").exists()


def test_every_trouble_is_one_line_and_the_rest_completes(tmp_path):
    path = toy_study(tmp_path, [0, 1, 2, 3, 4, 5, 6])
    done = ablate(path, tmp_path / "out", "--workers", 3, "--timeout", 0.8, "--memory", 1.2)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    cells = {cell.name: cell for cell in StudyFolder.open(tmp_path / "out").cells}
    assert {name for name, cell in cells.items() if cell.status == "finished"} == {"seed0", "seed5", "seed6"}
    attempts = {name: cell.state["attempt"] for name, cell in cells.items()}
    assert attempts == {"seed0": 1, "seed1": 2, "seed2": 2, "seed3": 2, "seed4": 2, "seed5": 2, "seed6": 1}, done.stderr
    for name, words in {
        "seed1": "no lesion in patient P7",
        "seed2": "took longer than 0.8 minutes",
        "seed3": "more than the 1.2 GiB",
        "seed4": "died",
    }.items():
        assert words in cells[name].state["reason"], cells[name].state["reason"]
        assert any(name in line and words in line for line in done.stdout.splitlines())
    page = (tmp_path / "out" / "report" / "report.html").read_text()
    assert "no lesion in patient P7" in page and "traceback" in page and "ValueError" in page


def test_a_full_disk_costs_one_cell(tmp_path, monkeypatch):
    write = state_module.write_atomic

    def full(path, content):
        if "seed7" in str(path):
            raise StorageError(f"writing failed: {path}: No space left on device")
        write(path, content)

    monkeypatch.setattr(state_module, "write_atomic", full)
    done = run_cells(read_study(toy_study(tmp_path, [7, 0])), tmp_path / "out", retries=0)
    states = {cell.name: cell for cell in done.cells}
    assert states["seed0"].status == "finished" and states["seed7"].status == "failed"
    assert any("seed7" in line and "No space left" in line for line in status_lines(done))


def test_nothing_finished_is_done_again(whole):
    before = contents(whole / "cells")
    done = ablate(whole.parent / "study.json", whole, "--resume")
    assert done.returncode == 0, done.stderr
    assert contents(whole / "cells") == before
    again = ablate(whole.parent / "study.json", whole)
    assert again.returncode == 2 and "--resume" in again.stderr
    other = ablate("affinity", whole, "--resume")
    assert other.returncode == 2 and "holds study tiny" in other.stderr


def test_other_settings_are_other_cells(whole, tmp_path):
    names = {cell.folder.name for cell in StudyFolder.open(whole).cells}
    study = Study.from_dict(TINY_STUDY | {"settings": TINY_STUDY["settings"] | {"hidden_size": 4, "threads": 1}})
    assert not names & {cell.folder.name for cell in prepare_study(study, tmp_path / "a").cells}
    threads = Study.from_dict(TINY_STUDY | {"settings": TINY_STUDY["settings"] | {"threads": 7}})  # another last bit
    assert not names & {cell.folder.name for cell in prepare_study(threads, tmp_path / "c").cells}
    same = Study.from_dict(TINY_STUDY | {"settings": TINY_STUDY["settings"] | {"checkpoint_minutes": 1}})
    assert names == {cell.folder.name for cell in prepare_study(same, tmp_path / "b").cells}


def test_killed_runners_lose_nothing(whole, tmp_path):
    seed = random.randrange(10**6)
    print("kills drawn with seed", seed)
    chance, out, kills = random.Random(seed), tmp_path / "out", 0
    for attempt in range(20):
        process = ablate(whole.parent / "study.json", out, "--workers", 2, *["--resume"] * attempt, start=True)
        if kills < 2:
            time.sleep(chance.uniform(6, 14))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        _, error = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error[-2000:]
    assert kills and finished_results(out) == finished_results(whole)


def test_ctrl_c_stops_and_resumes(whole, tmp_path):
    out = tmp_path / "out"
    process = ablate(whole.parent / "study.json", out, "--workers", 2, start=True)
    while (
        process.poll() is None
        and not any((out / "cells").glob("*/run/log.txt"))
        and not any((out / "shared").glob("detector-*/log.txt"))
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=90)
    assert process.returncode == 130 and "--resume" in error and "Traceback" not in error, error[-2000:]
    states = [cell.status for cell in StudyFolder.open(out).cells]
    assert "stopped" in states and "running" not in states
    assert ablate(whole.parent / "study.json", out, "--workers", 2, "--resume").returncode == 0
    assert finished_results(out) == finished_results(whole)


def test_two_runners_do_not_share_a_study(whole, tmp_path):
    from covid_workbench.locks import exclusive

    with exclusive(whole / ".lock"):
        done = ablate(whole.parent / "study.json", whole, "--resume")
    assert done.returncode == 2 and "another process is at work here" in done.stderr


def test_dask_gives_the_same(whole, tmp_path):
    pytest.importorskip("distributed")
    done = ablate(whole.parent / "study.json", tmp_path / "out", "--workers", 2, "--executor", "dask")
    assert done.returncode == 0, done.stderr[-2000:]
    assert finished_results(tmp_path / "out") == finished_results(whole)
    ours, theirs = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "out", whole))
    assert ours["cells"] == theirs["cells"]


def test_status_and_report(whole):
    done = shell("status", whole)
    assert done.returncode == 0 and "2 finished" in done.stdout and "attention" in done.stdout
    page = write_report(whole)
    text = page.read_text()
    assert "0.956" in text and "https://" not in text.split("</script>")[-1]  # the published figure stands beside ours
    table = (page.parent / "1-slices.tex").read_text()
    f1 = finished_results(whole)["attention"][1]["test"]["classification"]["weighted_f1"]
    assert f"{f1:.3f}" in table and f"{f1:.3f}" in text and "(0.956)" in table
    assert f"{f1:.3f}" in (page.parent / "report.ipynb").read_text()
    for cell in StudyFolder.open(whole).cells:
        assert json.loads((cell.folder / "notebook.ipynb").read_text())["metadata"]["papermill"]["exception"] is None
    assert shell("status", whole.parent).returncode == 2


def test_a_failed_source_fails_what_starts_from_it(tmp_path):
    content = {
        "name": "chain",
        "grids": [
            {"axes": {"model": ["lstm1"]}, "settings": {"seed": 1}},
            {"axes": {"tuned": {"yes": {}}}, "after": {"model": "lstm1"}},
        ],
    }
    toy_study(tmp_path, [1])
    done = run_cells(Study.from_dict(content | {"notebook": str(tmp_path / "toy.ipynb")}), tmp_path / "out", retries=0)
    assert [cell.status for cell in done.cells] == ["failed", "failed"]
    assert "lstm1, whose weights it starts from, failed" in done.cells[1].state["reason"]


def test_cells_are_pinned_to_gpus_and_threads(tmp_path):
    done = run_cells(read_study(toy_study(tmp_path, [6, 7, 8])), tmp_path / "out", gpus=("3", "5"), threads=2)
    figures = [cell.metrics["figures"] for cell in done.cells]
    assert {values["gpu"] for values in figures} == {3.0, 5.0} and {values["threads"] for values in figures} == {2.0}
    from covid_workbench.studies.results import results

    assert list(results(done)["gpu"]) == [
        values["gpu"] for values in figures
    ]  # what a notebook of one's own measured is in the tables


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"axes": {"model": {"a": "lstm2"}}}, "must be settings by name"),
        ({"axes": ["model"]}, "'axes' must be names with values"),
        ({"axes": {"model": ["lstm2"]}, "settings": ["seed"]}, "'settings' must be"),
        ({"axes": {"model": ["lstm2"]}, "sizes": {"smoke": None}}, "'smoke' must be settings"),
        ({"axes": {"model": ["lstm2"]}, "skip": {"model": "lstm2"}}, "'skip' must be a list"),
        ({"axes": {"model": ["lstm2"]}, "skip": [{"model": "lstm2"}]}, "no cell is left"),
        (
            {"axes": {"model": ["lstm2"]}, "tables": [{"title": "A", "rows": ["modle"], "figures": ["accuracy"]}]},
            "did you mean 'model'",
        ),
        (
            {
                "axes": {"model": ["lstm2"]},
                "tables": [{"title": "A", "rows": ["model"], "figures": ["accuracy"], "published": ["IV"]}],
            },
            "published is a source and a table",
        ),
        (
            {
                "axes": {"model": ["lstm1"]},
                "settings": {"regime": "two-phase"},
                "grids": [{"axes": {"tuned": {"yes": {}}}, "after": {"model": "lstm1"}}],
            },
            "needs regime=fine-tune",
        ),
        ({"axes": {"model": [["lstm2"]]}}, "setting model"),
        ({"axes": {"model": ["lstm2"]}, "tables": {"title": "A"}}, "'tables' must be a list"),
    ],
)
def test_odd_study_files(tmp_path, command, wrong, says):
    code, _, error = command(
        "ablate", write_study(tmp_path, {"name": "odd"} | wrong), "--out", tmp_path / "out", "--no-estimate"
    )
    assert code == 2 and says in error and not (tmp_path / "out").exists(), error


@pytest.mark.parametrize(
    "words, says",
    [
        (("--workers", 0), "workers=0"),
        (("--retries", -1), "retries=-1"),
        (("--seeds", 0), "seeds=0"),
        (("--timeout", -1), "timeout=-1"),
        (("--executor", "dusk"), "executor 'dusk'"),
    ],
)
def test_odd_options(tmp_path, command, words, says):
    code, _, error = command(
        "ablate", write_study(tmp_path, TINY_STUDY), "--out", tmp_path / "out", "--no-estimate", *words
    )
    assert code == 2 and says in error and not (tmp_path / "out").exists(), error


def test_a_cell_keeps_its_folder_under_another_name(tmp_path):
    study = Study.from_dict(TINY_STUDY)
    single = {cell.key: cell.folder for cell in prepare_study(study, tmp_path / "out").cells}
    three = {cell.key: cell.folder for cell in prepare_study(study, tmp_path / "out", seeds=3, resume=True).cells}
    assert len(three) == 6 and single.items() <= three.items()


def test_a_finished_cell_cannot_be_failed(tmp_path):
    done = run_cells(read_study(toy_study(tmp_path, [6])), tmp_path / "out")
    state_module.mark_failed(done.cells[0].folder, "a worker was lost")
    assert StudyFolder.open(tmp_path / "out").cells[0].status == "finished"
    other = prepare_toy(tmp_path, 8)
    state_module.mark_failed(other.folder, "a worker was lost")
    assert state_module.read_state(other.folder)["reason"] == "a worker was lost"


def prepare_toy(tmp_path, seed):
    return prepare_study(read_study(toy_study(tmp_path, [seed])), tmp_path / f"toy{seed}").cells[0]


def test_another_package_does_not_run_the_cells_of_this_one(tmp_path):
    cell = prepare_toy(tmp_path, 6)
    held = json.loads((cell.folder / "cell.json").read_text())
    (cell.folder / "cell.json").write_text(json.dumps(held | {"package": "an earlier one"}))
    state = execute_cell(str(cell.folder), Caller("one_run"))
    assert state["status"] == "failed" and "the package changed" in state["reason"]


def test_every_gpu_is_used_with_any_executor(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        done = run_cells(read_study(toy_study(tmp_path, [6, 7, 8])), tmp_path / "out", gpus=("3", "5"), executor=pool)
    assert {cell.metrics["figures"]["gpu"] for cell in done.cells} == {3.0, 5.0}


def test_a_moved_study_still_reports(whole, tmp_path):
    import shutil

    shutil.copytree(whole, tmp_path / "moved")
    text = write_report(tmp_path / "moved", notebook=False).read_text()
    assert f"{finished_results(whole)['attention'][1]['test']['classification']['weighted_f1']:.3f}" in text


def test_estimates_of_every_regime():
    from covid_workbench.studies.estimate import estimate_cells

    settings = TINY_STUDY["settings"] | {"backbone": "resnet18"}
    study = Study.from_dict(
        {
            "name": "regimes",
            "grids": [
                {"axes": {"regime": ["warm-start", "two-phase", "two-stage"]}, "settings": settings},
                {"axes": {"tuned": {"yes": {"classes": ["Normal", "COVID-19"]}}}, "after": {"regime": "warm-start"}},
            ],
        }
    )
    estimate = estimate_cells(study.cells(), workers=2)
    assert (
        list(estimate.cells["cell"]) == ["detector of warm_start", "warm_start", "two_phase", "two_stage", "yes"]
        and (estimate.cells["seconds"] > 0).all()
    )
    assert 0.1 < estimate.cells["GiB"].max() < 20 and "with 2 workers" in str(estimate)


def test_figures_of_a_notebook_of_ones_own(tmp_path):
    "Rows that join cells with and without a class, and figures that only a notebook knows."
    done = run_cells(read_study(toy_study(tmp_path, [6, 7])), tmp_path / "out")
    metrics = [
        {"figures": {"weighted F1": 0.7, "note": "words"}},
        {"parameters": 5, "test": {"classification": None, "detection": None}},
    ]
    for cell, content in zip(done.cells, metrics):
        (cell.folder / "run" / "metrics.json").write_text(json.dumps(content))
        (cell.folder / "run" / "history.csv").write_text("" if cell is done.cells[0] else "step\n1\n")
    text = write_report(tmp_path / "out", notebook=False).read_text()
    assert "0.700" in text
