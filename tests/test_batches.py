import threading
from dataclasses import replace
from itertools import count

import pytest
import torch
from dots import moving_dot

from shuttlelib import batches, versions
from shuttlelib.augment import Augmentation
from shuttlelib.samples import CropPolicy, Samples

CPU = torch.device("cpu")
STAGE1 = versions.resolve("stage1_v5", input_hw=(72, 128))
STAGE2 = versions.resolve("stage2_v8", input_hw=(48, 48))
PLAIN = {1: Augmentation(scale=(0.7, 1.4)), 2: Augmentation()}


def some(spec, augmentation, **kwargs):
    whole = spec.input_hw if spec.stage == 1 else None
    shapes = (((144, 256), 30.0), ((180, 240), 60.0), ((960, 1280), 25.0))  # letterboxed sides; downscaled
    caches = [moving_dot(hw, whole, 24, fps, n, f"clip{n}") for n, (hw, fps) in enumerate(shapes)]
    return Samples(caches, spec, augmentation, 3, **kwargs)


@pytest.fixture(scope="module")
def data():
    return {stage: some(spec, PLAIN[stage]) for stage, spec in ((1, STAGE1), (2, STAGE2))}


def draws(samples, count, start=0):
    return [((7 * n) % len(samples), n) for n in range(start, start + count)]


def on_device(samples, items, resident):
    pixels = batches.Pixels(samples, CPU, resident)
    plan = samples.plan(items)
    return pixels.batch(plan, pixels.read(plan))


def compare(samples, items, resident):
    one = [samples[item] for item in items]
    many = on_device(samples, items, resident)
    assert many["frames"].dtype == torch.uint8
    for key in ("xy", "history", "index"):
        assert torch.equal(torch.stack([item[key] for item in one]).nan_to_num(-1), many[key].nan_to_num(-1))
    gap = torch.stack([item["frames"] for item in one]).float() - many["frames"].float()
    return gap.abs().flatten(1).mean(1)


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize("stage", [1, 2])
def test_the_device_path_makes_the_pictures_of_the_cpu_path(data, stage, resident):
    samples = data[stage]
    gaps = compare(samples, draws(samples, 24), resident)
    assert gaps.mean() < 1.0
    assert gaps.max() < 3.0


def test_so_it_does_with_every_extra(data):
    samples = data[1]
    extras = {"roll_deg": 8.0, "perspective": 0.1, "poor": 0.6}
    plain, samples.augmentation = samples.augmentation, replace(PLAIN[1], **extras)
    gaps = compare(samples, draws(samples, 24), True)
    samples.augmentation = plain
    assert gaps.mean() < 1.0
    assert gaps.max() < 3.0


def test_crops_outside_the_frame_are_black_there(data):
    samples = Samples(
        data[2].caches, STAGE2, policy=CropPolicy(spread=0.0, elsewhere_share=0.0, follow_share=0.0)
    )
    edge = samples.index.index((0, 0))  # the dot starts at the left edge
    frames = on_device(samples, [edge], False)["frames"][0, -1]
    assert not frames[:, :, :8].any()
    assert frames[:, :, 30:].float().mean() > 30
    assert torch.equal(frames[:, :, :8], samples[edge]["frames"][-1][:, :, :8])


@pytest.mark.parametrize("stage", [1, 2])
def test_of_frames_that_are_there_a_batch_sends_numbers_and_no_pictures(data, monkeypatch, stage):
    sent, count = batches.Pixels._sent, []

    def counted(pixels, values):
        count.append(values.nbytes)
        return sent(pixels, values)

    monkeypatch.setattr(batches.Pixels, "_sent", counted)
    frames = on_device(data[stage], draws(data[stage], 12), True)["frames"]
    assert 0 < sum(count) < 0.1 * frames.nbytes


@pytest.mark.parametrize("stage", [1, 2])
def test_autocast_around_it_changes_no_picture(data, stage):
    items = draws(data[stage], 12)
    frames = on_device(data[stage], items, True)["frames"]
    with torch.autocast("cpu", torch.bfloat16):  # validation runs under it
        assert torch.equal(on_device(data[stage], items, True)["frames"], frames)


def test_what_arrives_is_what_was_sent():
    assert batches.Arriving(torch.tensor([1.0, 2.0])).wait().tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("free", "kept", "fits"), [(100, 0, False), (1000, 0, True), (100, 900, True)])
def test_what_torch_keeps_for_reuse_counts_as_free(data, monkeypatch, free, kept, fits):
    frames = sum(cache.frames.nbytes for cache in data[1].caches)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * frames / 500, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: (kept + 50) * frames / 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 50 * frames / 500)
    assert batches._fits(data[1], torch.device("cuda")) == fits


def test_batches_come_in_order_from_every_path(data):
    samples = data[2]
    lists = [draws(samples, 3, 3 * n) for n in range(5)]
    found = {
        name: list(batches.Source(samples, path=path, workers=workers).batches(lists))
        for name, path, workers in (("cpu", "cpu", 0), ("workers", "cpu", 1), ("device", "device", 0))
    }
    for name in ("workers", "device"):
        assert [b["index"].tolist() for b in found[name]] == [b["index"].tolist() for b in found["cpu"]]
    assert all(torch.equal(a["frames"], b["frames"]) for a, b in zip(found["cpu"], found["workers"]))
    assert batches.Source(samples, path="auto").path == "cpu"  # where there is no GPU


@pytest.mark.parametrize("stage", [1, 2])
def test_a_batch_does_not_depend_on_its_company(data, stage):
    samples = data[stage]
    many = on_device(samples, draws(samples, 12), True)  # crops of different scales among them
    for n in range(12):
        alone = on_device(samples, draws(samples, 1, n), True)
        gap = many["frames"][n : n + 1].float() - alone["frames"].float()
        assert gap.abs().max() <= 1  # a crop's place is rounded by what the largest crop needs
        assert gap.abs().mean() < 0.01
        assert torch.equal(many["history"][n : n + 1], alone["history"])


def test_what_goes_wrong_ahead_is_raised_and_leaving_early_ends_the_thread(data):
    def lists(broken):
        for n in count():
            if n == broken:
                raise ValueError("of batch 2")
            yield draws(data[2], 3, 3 * n)

    source = batches.Source(data[2], path="device")
    found = source.batches(lists(2))
    assert [next(found)["index"].tolist() for _ in range(2)] == [[0, 7, 14], [21, 28, 35]]
    with pytest.raises(ValueError, match="of batch 2"):
        next(found)
    with pytest.raises(IndexError):
        next(source.batches([[(len(data[2]), 0)]]))  # planned there too
    endless = source.batches(lists(-1))
    assert next(endless)["index"].tolist() == [0, 7, 14]
    ahead = [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
    endless.close()
    assert len(ahead) == 1
    assert not ahead[0].is_alive()
