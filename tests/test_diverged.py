"""Numbers that are no numbers: training stops at once and says where, such a run is marked and not continued, and no
figure comes from such weights.
"""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assignments, contents, tiny
from torch import nn

from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.evaluation.inference import NotFiniteError, predict_slices, score_slices
from covid_workbench.files import load_tensors, save_tensors
from covid_workbench.models.oneshot import OneShotModel
from covid_workbench.runs.datasets import ExperimentData, dataset_of
from covid_workbench.runs.load import adopt_weights, build_model, load_model
from covid_workbench.runs.region_cache import cached_regions
from covid_workbench.runs.run import DivergedError, Run
from covid_workbench.training.loop import Stage, run_stages
from covid_workbench.training.train import train

HOT = dict(
    model="classifier",
    learning_rate=1,
    weight_decay=10,
    schedule="constant",
    gradient_clip=0,
    epochs=5,
    classification_batch=8,
)  # ends in eleven tensors of NaN in its tenth step


def refused(command, *words, says):
    "The command fails with exit code 2 and one sentence that has all of these words; `train` said what it begins."
    code, out, err = command(*words)
    assert code == 2 and len(err.splitlines()) == 1 and len(out.splitlines()) <= (words[0] == "train"), (code, out, err)
    for word in says:
        assert str(word) in err, (word, err)


def test_a_training_that_diverges(command, tmp_path, phantom):
    "It ends with the sentence, is marked, has no weights, and no command takes it for a run like any other."
    words = ("train", tmp_path / "run", "--preset", "smoke", "--set", *assignments(**HOT))
    refused(command, *words, says=("diverged at step", "classification", "learning rate 1:", "loss", "learning_rate"))
    run = Run.open(tmp_path / "run")
    assert not run.complete and "diverged at step" in repr(run) and run.diverged["learning_rate"] == 1
    assert len(run.history) == run.diverged["step"] - 1 and np.isfinite(run.history["loss_image"]).all()
    before = contents(run.folder)
    for more in (
        (*words, "--resume"),
        ("evaluate", run.folder),
        ("predict", run.folder, phantom, "--out", tmp_path / "out"),
        ("train", tmp_path / "next", "--from", run.folder),
    ):
        refused(command, *more, says=("diverged at step", "other settings"))
    assert contents(run.folder) == before and not (tmp_path / "out").exists() and not (tmp_path / "next").exists()


class Toy(nn.Module):
    "One weight, one running statistic, and what goes wrong with them in a step."

    def __init__(self, wrong: str):
        super().__init__()
        self.weight, self.wrong = nn.Parameter(torch.ones(1)), wrong
        self.register_buffer("running", torch.zeros(1))

    def stage(self, steps: int, at: int) -> Stage:
        def losses(batch, step):
            now = self.wrong if step == at else ""
            if now == "buffer":
                self.running.fill_(math.inf)
            if now == "gradient":  # the slope of a root at 0
                yield {"loss_root": (self.weight - self.weight.detach()).abs().sqrt().sum()}
            if now == "weight":
                with torch.no_grad():
                    self.weight.fill_(math.nan)
                yield {"loss_flat": (self.weight.nan_to_num() * 0).sum() + 1}
            yield {"loss_line": (self.weight * (math.nan if now == "loss" else 1)).sum(), "share": torch.tensor(0.5)}

        def validate():
            if self.wrong == "answer":
                raise NotFiniteError("slice 7: the logits of the model are not finite numbers")
            return {"score": math.nan if self.wrong == "score" else -float(self.weight.detach())}

        return Stage("toy", steps, 0.1, [self.weight], iter, losses, validate, validate_every=at + 1)


def toy_run(folder) -> Run:
    table = SliceTable(pd.DataFrame([dict(id="a", patient="P1", image="a.png")]))
    return Run.create(folder, tiny(gradient_clip=0, checkpoint_minutes=0), table)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ("loss", "loss_line is nan"),
        ("gradient", "the gradient norm is"),
        ("weight", "weight is not finite after the step"),
        ("buffer", "running is not finite after the step"),
        ("score", "validation_score is nan"),
        ("answer", "slice 7"),
    ],
)
def test_the_step_that_diverges_is_named_and_the_checkpoint_before_it_kept(tmp_path, wrong, says):
    run, toy = toy_run(tmp_path / "run"), Toy("")
    run_stages(run, toy, [toy.stage(4, at=9)], progress=False)  # a checkpoint after each step
    before = (run.folder / "checkpoint.safetensors").read_bytes()
    toy = Toy(wrong)
    with pytest.raises(DivergedError, match="toy") as caught:
        run_stages(run, toy, [toy.stage(8, at=4)], progress=False)
    facts = run.diverged
    assert says in facts["what"] and says in str(caught.value)
    assert (facts["step"], facts["steps"], facts["stage"]) == (5, 8, "toy") and facts["learning_rate"] > 0
    assert f"--from {run.folder}" in str(caught.value) and "last good checkpoint is kept" in str(caught.value)
    assert (run.folder / "checkpoint.safetensors").read_bytes() == before
    assert "diverged at step 5 of 8 of toy" in repr(run)
    figures = run.history.drop(columns="stage").to_numpy(float)
    assert len(figures) in (4, 5) and not np.isinf(figures).any() and np.isfinite(run.history["loss_line"]).all()


def test_a_checkpoint_never_holds_what_is_no_number(tmp_path, monkeypatch):
    "Even where nobody looked before: the moments of the optimiser."
    run, toy = toy_run(tmp_path / "run"), Toy("")
    stage = toy.stage(3, at=9)

    def validate():
        stage_optimizer[0].state[toy.weight]["exp_avg"].fill_(math.inf)
        return {"score": 0.0}

    stage_optimizer, made = [], torch.optim.AdamW

    def spy(*words, **options):
        stage_optimizer.append(made(*words, **options))
        return stage_optimizer[-1]

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    stage.validate, stage.validate_every = validate, 2
    with pytest.raises(DivergedError, match="exp_avg is not finite"):
        run_stages(run, toy, [stage], progress=False)
    assert load_tensors(run.folder / "checkpoint.safetensors")[1]["step"] == 1


def test_a_huge_but_finite_weight_goes_on(tmp_path):
    "Its square is infinite in single precision; it is a number all the same."
    run, toy = toy_run(tmp_path / "run"), Toy("")
    toy.running.fill_(1e30)
    run_stages(run, toy, [toy.stage(3, at=9)], progress=False)
    assert run.diverged is None and float(toy.running) == float(torch.tensor(1e30))


def test_a_detector_that_diverges_marks_every_run_that_needs_it(tmp_path, monkeypatch):
    def losses(self, images, targets, seeds=None):
        return {"rpn_class": next(self.parameters()).sum() * math.nan}

    monkeypatch.setattr(OneShotModel, "segmentation_losses", losses)
    for name, model in (("one", "lstm2"), ("two", "attention")):
        with pytest.raises(DivergedError, match=f"{name} diverged.*loss_rpn_class is nan.*detector_learning_rate"):
            train(tiny(model=model), tmp_path / name, shared=tmp_path / "shared", progress=False)
        assert "shared detector" in repr(Run.open(tmp_path / name))
    [detector] = (tmp_path / "shared").glob("detector-*")
    assert Run.open(detector).diverged["setting"] == "detector_learning_rate"
    with pytest.raises(DivergedError):
        train(tiny(model="lstm2"), tmp_path / "one", shared=tmp_path / "shared", progress=False, resume=True)


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    "A copy of a finished run that may be damaged."
    return Run.open(shutil.copytree(finished.folder, tmp_path / "copy"))


def poison(path, part="") -> str:
    "Put one NaN into a file of tensors; the name of the tensor."
    tensors, note = load_tensors(path)
    name = [name for name, value in tensors.items() if name.startswith(part) and value.ndim > 1][3]
    tensors[name].view(-1)[5] = math.nan
    save_tensors(path, tensors, note)
    return name


def test_weights_that_are_no_numbers_are_refused_by_name(command, copy, phantom, tmp_path):
    name = poison(copy.folder / "weights.safetensors")
    before = contents(copy.folder)
    for words in (
        ("evaluate", copy.folder),
        ("predict", copy.folder, phantom, "--out", tmp_path / "out"),
        ("train", tmp_path / "next", "--from", copy.folder, "--set", "epochs=0"),
    ):
        refused(command, *words, says=("weights.safetensors", name, "NaN"))
    assert contents(copy.folder) == before and not (tmp_path / "next").exists() and not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=name):
        adopt_weights(build_model(copy.experiment), copy)


def test_a_model_of_such_weights_is_not_trained(tmp_path, finished):
    model = load_model(finished)
    next(model.parameters()).data.view(-1)[0] = math.nan
    with pytest.raises(InputError, match="model to train: tensor"):
        train(finished.experiment, tmp_path / "run", shared=finished.folder.parent / "shared", model=model)
    assert not (tmp_path / "run").exists()


def test_such_a_detector_starts_no_run(finished, tmp_path):
    shared = shutil.copytree(finished.folder.parent / "shared", tmp_path / "shared")
    name = poison(shared / finished.detector.folder.name / "weights.safetensors", "detector.")
    with pytest.raises(InputError, match=name.removeprefix("detector.")):
        train(finished.experiment.replace(model="lstm1"), tmp_path / "lstm1", shared=shared, progress=False)


def test_such_a_checkpoint_is_not_continued(tmp_path):
    run, toy = toy_run(tmp_path / "run"), Toy("")
    run_stages(run, toy, [toy.stage(3, at=9)], progress=False)
    tensors, note = load_tensors(run.folder / "checkpoint.safetensors")
    tensors["model.weight"].fill_(math.nan)
    save_tensors(run.folder / "checkpoint.safetensors", tensors, note)
    with pytest.raises(InputError, match="checkpoint.safetensors: tensor model.weight"):
        run_stages(run, toy, [toy.stage(6, at=9)], progress=False)


def test_answers_that_are_no_numbers_are_no_answers(finished):
    "Finite weights whose sums overflow: the slice is named; weights of NaN: the tensor."
    dataset = dataset_of(finished.experiment, finished.table.split("test"))
    model = load_model(finished)
    last = [layer for layer in model.image_head.modules() if isinstance(layer, nn.Linear)][-1]
    last.weight.data.fill_(3e38)
    last.bias.data.fill_(3e38)
    first = dataset.table.frame["id"].iloc[0]
    with pytest.raises(NotFiniteError, match=f"slice {first}: the logits"):
        list(predict_slices(model, dataset))
    with pytest.raises(NotFiniteError, match=f"slice {first}: the logits"):
        score_slices(model, dataset)
    model.detector.roi_heads.box_predictor.cls_score.weight.data.fill_(math.nan)  # finds nothing, which is a score
    with pytest.raises(NotFiniteError, match="cls_score.weight"):
        score_slices(model, dataset, evidence=False)


def test_figures_of_such_answers_are_not_written(copy):
    tensors, note = load_tensors(copy.folder / "weights.safetensors")
    for name, value in tensors.items():
        if name.startswith("image_head.") and name.endswith(("weight", "bias")) and len(value) == 3:
            value.fill_(3e38)
    save_tensors(copy.folder / "weights.safetensors", tensors, note)
    before = contents(copy.folder)
    with pytest.raises(NotFiniteError, match="logits"):
        evaluate(copy, progress=False)
    assert contents(copy.folder) == before


def test_regions_beyond_half_precision_are_not_cached(finished, tmp_path, monkeypatch):
    model, data = load_model(finished), ExperimentData(finished.experiment, finished.table)
    read = model.read
    monkeypatch.setattr(model, "read", lambda *words: read(*words) * 1e6)
    dataset, path = data.dataset("validation", labelled=True), tmp_path / "regions"
    with pytest.raises(InputError, match=f"slice {dataset.table.frame['id'].iloc[0]}: .*half precision"):
        cached_regions(model, dataset, path, "key", progress=False)
    assert not path.exists()  # nothing was written


def test_a_run_that_diverged_gives_its_last_checkpoint_to_another(finished, copy, tmp_path):
    "`--from` takes it, and the classes of the new run are trained on."
    tensors, _ = load_tensors(copy.folder / "weights.safetensors")
    (copy.folder / "weights.safetensors").unlink()
    held = {f"model.{name}": value * 0 for name, value in tensors.items()}
    held |= {f"best.{name}": value for name, value in tensors.items()}
    save_tensors(copy.folder / "checkpoint.safetensors", held)
    with pytest.raises(InputError, match="complete that run"):
        adopt_weights(build_model(copy.experiment), copy)
    facts = dict(stage="two-phase", step=3, steps=9, what="loss is nan", learning_rate=0.1, setting="learning_rate")
    (copy.folder / "diverged.json").write_text(json.dumps(facts))
    recipe = dict(regime="fine-tune", start_from=str(copy.folder), epochs=0)
    run = train(copy.experiment.replace(**recipe), tmp_path / "next", table=finished.table, progress=False)
    ours, theirs = load_model(run).state_dict(), load_model(finished).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_loss_that_copies_wait_for_may_be_infinite(tmp_path):
    "Copies of the heads are renewed when the loss falls below the last one, which is infinite before the first step."
    experiment = tiny(model="lstm1", protocol="released")
    run = Run.create(
        tmp_path / "run", experiment, SliceTable(pd.DataFrame([dict(id="a", patient="P1", image="a.png")]))
    )
    model = build_model(experiment)
    save_tensors(run.folder / "weights.safetensors", model.state_dict())
    assert float(load_model(run).regions.last_loss) == math.inf
    model.regions.last_loss.fill_(math.nan)
    save_tensors(run.folder / "weights.safetensors", model.state_dict())
    with pytest.raises(InputError, match="regions.last_loss"):
        load_model(run)
