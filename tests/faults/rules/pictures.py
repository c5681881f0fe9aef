"""Pictures and masks: cut, flipped, of wrong modes, bombs, pipes, links, giants, changed after training."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, PngImagePlugin

from ..base import Check, Outcome, Try, either, fine, rule, said
from ..material import World, evaluate_try, predict_try, train_words
from ..values import ANY_FILE, damage, rewrite


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes = b"", *more: bytes, bits: int = 8) -> bytes:
    "A PNG with any header and data."
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(size: tuple[int, int] = (64, 64)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    return Image.fromarray(pixels)


def _text_bomb(chance: Random) -> bytes:
    text = zlib.compress(b"a" * 200_000_000, 9)
    return png(64, 64, bytes(65 * 64), chunk(b"zTXt", b"Comment\x00\x00" + text))


def _many_texts(chance: Random) -> bytes:
    info = PngImagePlugin.PngInfo()
    for number in range(300):
        info.add_text(f"k{number}", "v" * 100_000, zip=True)
    return saved(grey(), "PNG", pnginfo=info)


def _animated(chance: Random) -> bytes:
    frames = [grey(), grey().rotate(90), grey().rotate(180)]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(canary.png) deletefile\nshowpage\n"
MAKERS: dict[str, Callable[[Random], bytes]] = {  # what stands in a file that is called .png
    "PostScript": lambda chance: POSTSCRIPT,
    "GIF": lambda chance: saved(grey(), "GIF"),
    "WebP": lambda chance: saved(grey().convert("RGB"), "WEBP"),
    "ICO": lambda chance: saved(grey(), "ICO"),
    "PPM": lambda chance: saved(grey(), "PPM"),
    "PDF": lambda chance: saved(grey(), "PDF"),
    "text": lambda chance: b"no picture",
    "HTML": lambda chance: b"<html><script>alert(1)</script>",
    "SVG": lambda chance: b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
    "gigapixel header": lambda chance: png(100_000, 100_000, b"x"),
    "huge header": lambda chance: png(2**31 - 1, 2**31 - 1, b"x"),
    "long header": lambda chance: png(200_000_000, 1, b"x"),
    "140 megapixels": lambda chance: png(14_000, 10_000, bytes(14_001 * 10_000)),
    "no pixels": lambda chance: png(0, 0),
    "no data": lambda chance: png(64, 64),
    "text bomb": _text_bomb,
    "many texts": _many_texts,
    "16 bits": lambda chance: saved(Image.fromarray(np.full((64, 64), 300, np.uint16)), "PNG"),
    "32 bits TIFF": lambda chance: saved(Image.fromarray(np.full((64, 64), 70_000, np.int32)), "TIFF"),
    "float TIFF": lambda chance: saved(Image.fromarray(np.full((64, 64), 0.5, np.float32)), "TIFF"),
    "LAB TIFF": lambda chance: saved(Image.new("LAB", (64, 64), (50, 128, 128)), "TIFF"),
    "CMYK JPEG": lambda chance: saved(Image.new("CMYK", (64, 64), (0, 0, 0, 100)), "JPEG"),
    "CMYK TIFF": lambda chance: saved(Image.new("CMYK", (64, 64), (0, 0, 0, 100)), "TIFF"),
    "other size": lambda chance: saved(grey((48, 80)), "PNG"),
    "one pixel": lambda chance: saved(grey((1, 1)), "PNG"),
    "line": lambda chance: saved(grey((1, 3000)), "PNG"),
    "palette": lambda chance: saved(grey().convert("P"), "PNG"),
    "colours": lambda chance: saved(grey().convert("RGB"), "PNG"),
    "transparency": lambda chance: saved(grey().convert("RGBA"), "PNG"),
    "one bit": lambda chance: saved(grey().convert("1"), "PNG"),
    "animated": _animated,
    "JPEG": lambda chance: saved(grey(), "JPEG"),
    "BMP": lambda chance: saved(grey(), "BMP"),
    "TIFF of two pages": lambda chance: saved(grey(), "TIFF", save_all=True, append_images=[grey()]),
}
VALID = {  # with 8 bits of grey or colour; anything else must be refused
    *("other size", "one pixel", "line", "palette", "colours", "transparency", "one bit", "JPEG", "BMP"),
    *("text bomb", "many texts", "animated", "TIFF of two pages", "CMYK JPEG", "CMYK TIFF"),
}


def change(chance: Random, path: Path) -> tuple[str, bool]:
    "Put something else in the place of a picture; what, and whether it can still be one."
    if chance.random() < 0.4:
        ways = ANY_FILE | {"cut": ANY_FILE["truncated"], "short": ANY_FILE["truncated"], "flip": _flipped}
        what = damage(chance, path, ways)
        return what, "bits" in what or "cut" in what
    kind = chance.choice(sorted(MAKERS))
    rewrite(path, MAKERS[kind](chance))
    return f"{path.name}: {kind}", kind in VALID


def _flipped(chance: Random, path: Path) -> str:
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    rewrite(path, bytes(content))
    return "bits flipped"


@rule(6)
def predicted(chance: Random, world: World) -> Try:
    "predict on one picture that is none, or a strange one."
    path = world.scratch / "slice.png"
    path.write_bytes(world.picture.read_bytes())
    what, valid = change(chance, path)
    return predict_try(world, path, names=["slice"], fine=fine if valid else None, input=f"predict: {what}")


@rule(5)
def trained(chance: Random, world: World) -> Try:
    "train on data with one such picture among good ones: named before anything starts."
    path = chance.choice(sorted(world.data.glob("*/*/*/*.png")))
    what, valid = change(chance, path)
    words = train_words(world, aggregator_epochs=0.3, detector_epochs=0.3)
    return Try(words, [path.name, path.stem, "slices.csv"], fine if valid else None, input=f"train: {what}")


MASKS = {
    "value 7": lambda chance: saved(Image.fromarray(np.full((64, 64), 7, np.uint8)), "PNG"),
    "value 255": lambda chance: saved(Image.fromarray(np.full((64, 64), 255, np.uint8)), "PNG"),
    "colours": lambda chance: saved(grey().convert("RGB"), "PNG"),
    "16 bits": lambda chance: saved(Image.fromarray(np.full((64, 64), 258, np.uint16)), "PNG"),
    "float": lambda chance: saved(Image.fromarray(np.full((64, 64), 1.5, np.float32)), "TIFF"),
    "nan": lambda chance: saved(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"),
    "negative": lambda chance: saved(Image.fromarray(np.full((64, 64), -1, np.int32)), "TIFF"),
    "other size": lambda chance: saved(Image.fromarray(np.zeros((50, 64), np.uint8)), "PNG"),
    "turned": lambda chance: saved(Image.fromarray(np.zeros((64, 65), np.uint8)), "PNG"),
    "gigapixel": MAKERS["gigapixel header"],
    "PostScript": MAKERS["PostScript"],
    "GIF": MAKERS["GIF"],
    "empty": lambda chance: saved(Image.fromarray(np.zeros((64, 64), np.uint8)), "PNG"),
    "palette": lambda chance: saved(Image.fromarray(np.zeros((64, 64), np.uint8)).convert("P"), "PNG"),
}


@rule(4)
def masks(chance: Random, world: World) -> Try:
    "A mask with values, modes or sizes that mean nothing."
    path = chance.choice(sorted((world.data / "mask").rglob("*.png")))
    if chance.random() < 0.3:
        what = damage(chance, path, ANY_FILE)
    else:
        kind = chance.choice(sorted(MASKS))
        rewrite(path, MASKS[kind](chance))
        what = f"{path.name}: {kind}"
    harmless = fine if what.endswith(("empty", "palette")) and "0 of" not in what else None
    if what.endswith(": empty") and path.stat().st_size == 0:
        harmless = None
    words = train_words(world, aggregator_epochs=0.3, detector_epochs=0.3)
    return Try(words, [str(path.relative_to(world.data)), path.name, "lesion"], harmless, input=f"mask: {what}")


@rule(4)
def after_training(chance: Random, world: World) -> Try:
    "A picture or mask of a trained run changed: the scores are those of before, or the change is said."
    world.run  # noqa: B018
    table = (world.run / "slices.csv").read_text().splitlines()
    row = chance.choice([line for line in table[1:] if ",test," in line or ",validation," in line]).split(",")
    path = world.data / next(word for word in row if word.endswith(".png"))
    kind = chance.choice(["inverted", "shuffled", "deleted", "truncated", "flip", "all inverted"])
    if kind in ("inverted", "shuffled", "all inverted"):
        for one in sorted(world.data.glob("*/*/*/*.png")) if kind == "all inverted" else [path]:
            pixels = 255 - np.asarray(Image.open(one)) if "inverted" in kind else np.asarray(Image.open(one)).T[::-1]
            stamp = one.stat()
            Image.fromarray(np.ascontiguousarray(pixels)).save(one, compress_level=chance.choice([0, 6]))
            if chance.random() < 0.3:  # the time of a copy
                os.utime(one, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    else:
        damage(chance, path, {"flip": _flipped} if kind == "flip" else {kind: ANY_FILE[kind]})
    check = either(world.same("evaluate"), said("changed"))
    names = [path.name, path.stem, row[0], "changed", "data"]
    return evaluate_try(world, names=names, fine=check, input=f"{path.name}: {kind} after training")


@rule(3)
def one_of_many(chance: Random, world: World) -> Try:
    "predict on a folder with one bad picture: the others keep their answers, and the bad one is named."
    folder = world.scratch / "many"
    folder.mkdir()
    for number, path in enumerate(sorted(world.data.glob("*/*/*/*.png"))[:8]):
        (folder / f"s{number}.png").write_bytes(path.read_bytes())
    bad = folder / "s3.png"
    kind = chance.choice(["truncated", "pipe", "empty", "16 bits", "gigapixel header", "text"])
    if kind in ANY_FILE:
        damage(chance, bad, {kind: ANY_FILE[kind]})
    else:
        rewrite(bad, MAKERS[kind](chance))
    # a pipe is no picture of a folder; a cut one may have all its pixels
    check = either(said("s3"), _answers(7 if kind == "pipe" else 8)) if kind in ("pipe", "truncated") else said("s3")
    return predict_try(world, folder, names=["s3"], fine=check, input=f"one of eight: {kind}")


def _answers(number: int) -> Check:
    def check(outcome: Outcome) -> str:
        slices = json.loads((outcome.scratch / "out" / "predictions.json").read_text())["slices"]
        return "" if len(slices) == number else f"{len(slices)} answers instead of {number}"

    return check


@rule(2)
def skipped(chance: Random, world: World) -> Try:
    "train --skip-broken: a slice that cannot be read is left out, and named."
    path = chance.choice(sorted(world.data.glob("*/*/*/*.png")))
    what, valid = change(chance, path)
    words = [*train_words(world, aggregator_epochs=0.3, detector_epochs=0.3), "--skip-broken"]
    names = [path.name, path.stem, "slices.csv", f"{path.parent.parent.name}_1_{path.stem}"]
    return Try(words, names, fine if valid else said(names[-1]), input=f"train --skip-broken: {what}")


@rule(2)
def names(chance: Random, world: World) -> Try:
    "Pictures under names that a folder of results, a page or a shell could stumble over: all valid."
    folder = world.scratch / "many"
    folder.mkdir()
    first = world.picture.read_bytes()
    pool = [
        "a b",
        "é",
        "💥",
        "x\ny",
        "$(id)",
        "<b>&",
        "n" * 240,
        "-x",
        "CON",
        "a'\"b",
        "%s",
        "s",
        "S",
        ".hidden",
        "a.b.c",
        "\udcff",
    ]
    chosen = chance.sample(pool, 4)
    for name in chosen:
        (folder / f"{name}.png").write_bytes(first)
    return predict_try(
        world, folder, names=[str(folder), *chosen], fine=_pictured(len(chosen)), input=f"names {chosen!r}"
    )


def _pictured(number: int) -> Check:
    def check(outcome) -> str:
        slices = json.loads((outcome.scratch / "out" / "predictions.json").read_text())["slices"]
        pictures = list((outcome.scratch / "out" / "overlays").iterdir())
        return (
            ""
            if len(slices) == len(pictures) == number
            else f"{number} pictures: {len(slices)} answers, {len(pictures)} drawn"
        )

    return check


@rule(1)
def twice(chance: Random, world: World) -> Try:
    "The same picture, or two of the same name, given at once."
    other = world.scratch / "b" / world.picture.name
    other.parent.mkdir()
    other.write_bytes(world.picture.read_bytes())
    second = chance.choice([world.picture, other])
    one = predict_try(world, world.picture, second, names=[world.picture.stem, world.picture.name])
    one.fine = _pictured(2) if second == other else either(_pictured(2), _pictured(1))
    one.input = f"{world.picture.name} and {second.parent.name}/{second.name}"
    return one
