"""Stand-ins for networks (the brightest pixel is the shuttle), in Python and in ONNX; and a broken video."""

import json
from pathlib import Path

import numpy as np

from shuttlelib.runtime import Candidates


class BrightBackend:
    """Finds the brightest pixel of the current frame; visible if it is brighter than `threshold`."""

    name, device, version = "fake", "cpu", "bright"

    def __init__(self, input_hw, threshold=128, uses_history=False, frames=4, ahead=0):
        self.frames, self.ahead = frames, ahead
        self.input_hw, self.threshold, self.uses_history = input_hw, threshold, uses_history
        self.batches, self.histories = [], []

    def run(self, frames, history=None):
        assert frames.dtype == np.uint8
        assert frames.shape[1:] == (self.frames, *self.input_hw, 3)
        self.batches.append(frames)
        self.histories.append(history)
        grey = frames[:, -1 - self.ahead].astype(np.float32).mean(-1)
        flat = grey.reshape(len(grey), -1)
        best = flat.argmax(1)
        xy = np.stack([best % self.input_hw[1], best // self.input_hw[1]], -1)[:, None] + 0.5
        visible = 1 / (1 + np.exp(-(flat.max(1) - self.threshold) / 10))
        return Candidates(
            xy.astype(np.float32), visible[:, None].astype(np.float32), visible.astype(np.float32)
        )


def write_models(root: Path, hw1=(36, 64), hw2=(32, 32), history=False, ahead=0) -> Path:
    """A folder of models as shipped: two bright-pixel versions and default.json; stage 2 may look ahead."""
    for stage, hw in ((1, hw1), (2, hw2)):
        folder = root / f"bright{stage}"
        folder.mkdir(parents=True)
        card = {
            "name": f"bright{stage}",
            "stage": stage,
            "input_hw": list(hw),
            "candidates": 1,
            "history": history,
            "frames": 4 + ahead * (stage == 2),
            "ahead": ahead * (stage == 2),
        }
        (folder / "version.json").write_text(json.dumps(card))
        _write_onnx(folder / "model.onnx", hw, history, card["frames"])
    (root / "default.json").write_text(json.dumps({"stage1": "bright1", "stage2": "bright2"}))
    return root


def _write_onnx(path: Path, hw, history: bool, frames: int) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    height, width = hw
    shape = ["batch", frames, height, width, 3]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, shape)]
    if history:
        inputs.append(helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", 30, 3]))
    outputs = [
        helper.make_tensor_value_info("xy", TensorProto.FLOAT, ["batch", 1, 2]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1]),
        helper.make_tensor_value_info("visible", TensorProto.FLOAT, ["batch"]),
    ]
    numbers = {
        "three": np.int64([3]),
        "four": np.int64([4]),
        "one": np.int64([1]),
        "rows": np.int64([0, -1]),
        "width": np.int64([width]),
        "half": np.float32(0.5),
        "dark": np.float32(128),
        "soft": np.float32(10),
        "flat": np.int64([-1]),
        "pixel": np.int64([1, 4]),
    }
    node = helper.make_node
    nodes = [
        node("Slice", ["frames", "three", "four", "one"], ["current"]),
        node("Cast", ["current"], ["light"], to=TensorProto.FLOAT),
        node("ReduceMean", ["light", "pixel"], ["grey"], keepdims=0),
        node("Reshape", ["grey", "rows"], ["cells"]),
        node("TopK", ["cells", "one"], ["best", "index"], axis=1),
        node("Mod", ["index", "width"], ["column"]),
        node("Div", ["index", "width"], ["row"]),
        node("Concat", ["column", "row"], ["place"], axis=1),
        node("Cast", ["place"], ["corner"], to=TensorProto.FLOAT),
        node("Add", ["corner", "half"], ["center"]),
        node("Unsqueeze", ["center", "one"], ["xy"]),
        node("Sub", ["best", "dark"], ["above"]),
        node("Div", ["above", "soft"], ["logit"]),
        node("Sigmoid", ["logit"], ["score"]),
        node("Reshape", ["score", "flat"], ["visible"]),
    ]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "bright", inputs, outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def cut_short(path: Path, share: float) -> Path:
    """Keep the first `share` of an mp4's bytes, its index moved to the front as for streaming."""
    import av

    streamable = path.with_name("streamable.mp4")
    with (
        av.open(str(path)) as source,
        av.open(str(streamable), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    whole = streamable.read_bytes()
    streamable.unlink()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path
