"""Units of clips: the nearest k-means centroid of each frame of a HuBERT, XLS-R or wav2vec 2.0 layer.

Not de-duplicated: a unit a frame, 50 a second. `--layer` counts the transformer's layers from 0, as
seamless_communication's UnitExtractor does: USDM's "layer 35 of xlsr2_1b_v2" is `--layer 34` (there
`35 - 1`), the output of that layer as it stands before any final layer norm. In transformers'
words it is `hidden_states[layer + 1]`, since `hidden_states[0]` goes into the first layer. Layers
behind it are not run. Clips are normalised one by one as the model's preprocessor says (zero mean
and unit variance, where it says nothing: so does seamless_communication).
"""

import argparse
import os
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from typing import Protocol

import numpy as np
import numpy.typing as npt

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.generate.encode import EncodeReport
from speechrows.generate.encode import run
from speechrows.generate.mimi import digest
from speechrows.generate.mimi import exact_floats
from speechrows.generate.mimi import pick_device
from speechrows.generate.selection import ClipSelection
from speechrows.generate.waves import RESAMPLER
from speechrows.generate.waves import Float32
from speechrows.generate.workers import by_workers
from speechrows.generate.workers import device_of_workers
from speechrows.generate.writer import SidecarWriter
from speechrows.storage.models import is_from_cache
from speechrows.types import Int32
from speechrows.workers.local import HERE
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress

try:
    import torch
    from transformers import AutoModel
    from transformers import Wav2Vec2FeatureExtractor
except ImportError as error:
    raise UsageError(f"found {error}; generate units needs: pip install 'speechrows[codec]'") from error

SAMPLING_RATE = 16_000
BATCH_SECONDS = {"cpu": 8.0, "cuda": 240.0}
_FRAMES_AT_ONCE = 2048  # against all centroids: 80 MB of distances for ten thousand


class UnitExtractor(Protocol):
    """Turns speech at 16 kHz into units."""

    @property
    def name(self) -> str:
        """The codec that rows name."""
        ...

    @property
    def rate_hz(self) -> Fraction:
        """Units a second."""
        ...

    @property
    def num_units(self) -> int:
        """Units are 0..num_units-1."""
        ...

    def units(self, waves: Sequence[Float32]) -> list[Int32]:
        """Units int32 [F] of clips float32 [S], mono, 16 kHz; none of a clip too short for a frame."""
        ...


class KMeansUnits:
    """Centroids over a hidden layer of a transformers model. A UnitExtractor."""

    def __init__(
        self, model: str, centroids: npt.NDArray[np.float32], layer: int, device: torch.device
    ) -> None:
        self._model = _load_model(model, layer, centroids.shape[1])
        self._model.to(device)
        self._num_frames: Any = self._model._get_feat_extract_output_lengths
        self._normalise = _load_preprocessor(model)
        self._device = device
        self._outputs: list[torch.Tensor] = []  # of the layer, caught as they pass
        self._model.encoder.layers[layer].register_forward_hook(self._catch)
        self._centroids = torch.from_numpy(centroids).to(device)
        self._norms = self._centroids.square().sum(dim=1)
        config = self._model.config
        # A group norm takes its statistics over a whole clip, padding too, and the models that have one
        # were trained without a mask. So clips of other lengths are never in a batch with it.
        self._may_pad = config.feat_extract_norm == "layer"
        self.num_units = len(centroids)
        self.rate_hz = Fraction(SAMPLING_RATE, int(np.prod(config.conv_stride)))
        thousands, rest = divmod(self.num_units, 1000)
        short = f"{thousands}k" if not rest else str(self.num_units)
        self.name = f"{model.rstrip('/').rpartition('/')[2]}_{short}"

    def digest(self) -> str:
        """16 hex digits of the weights, centroids among them, wherever they came from."""
        return digest(self._model, self._centroids)

    def units(self, waves: Sequence[Float32]) -> list[Int32]:
        """See UnitExtractor."""
        lengths = torch.tensor([len(wave) for wave in waves])
        frames: list[int] = self._num_frames(lengths).tolist()
        units = [np.zeros(0, np.int32) for _ in waves]
        batches: dict[int, list[int]] = {}
        for i, wave in enumerate(waves):
            if frames[i] > 0:
                batches.setdefault(0 if self._may_pad else len(wave), []).append(i)
        with torch.inference_mode(), exact_floats():
            for batch in batches.values():
                nearest = self._nearest(self._hidden([waves[i] for i in batch]))
                for i, padded in zip(batch, nearest, strict=True):
                    units[i] = padded[: frames[i]]
        return units

    def _hidden(self, waves: Sequence[Float32]) -> torch.Tensor:
        """The layer's output, float32 [N, F, dim], padded on the right."""
        inputs: Any = self._normalise(
            list(waves),
            sampling_rate=SAMPLING_RATE,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        is_padded = len({len(wave) for wave in waves}) > 1
        mask = inputs["attention_mask"].to(self._device) if is_padded else None
        self._model(inputs["input_values"].to(self._device), attention_mask=mask)
        return self._outputs.pop()

    def _catch(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._outputs.append(output[0] if isinstance(output, tuple) else output)

    def _nearest(self, hidden: torch.Tensor) -> Int32:
        """The nearest centroid of each frame, int32 [N, F], by distance in float32."""
        nearest: list[torch.Tensor] = []
        for frames in hidden.flatten(0, 1).split(_FRAMES_AT_ONCE):
            # |x - c|^2 less |x|^2, which is the same for every centroid
            distances = torch.addmm(self._norms, frames, self._centroids.T, alpha=-2)
            nearest.append(distances.argmin(dim=1).to(torch.int32))
        return torch.cat(nearest).view(hidden.shape[:2]).cpu().numpy()


def load_centroids(path: Path) -> npt.NDArray[np.float32]:
    """K-means centroids, float32 [num_units, dim], from a .npy file.

    Raises:
        UsageError: it holds something else.
    """
    expected = "expected an .npy file of floats, [number of units, width of the layer]"
    try:
        centroids = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"--kmeans {path}: found {error}; {expected}") from error
    is_array = isinstance(centroids, np.ndarray)
    if not is_array or centroids.ndim != 2 or centroids.dtype.kind != "f" or not centroids.size:
        what = f"{centroids.dtype} {centroids.shape}" if is_array else type(centroids).__name__
        raise UsageError(f"--kmeans {path}: found {what}; {expected}")
    if not np.isfinite(centroids).all():
        raise UsageError(f"--kmeans {path}: found centroids that are no numbers (NaN); {expected}")
    return np.ascontiguousarray(centroids, np.float32)


def _load_model(model: str, layer: int, width: int) -> Any:
    """The model up to the layer, in eval mode; its hidden states are `width` wide."""
    expected = f"--model {model}: expected a folder or a Hub repository with a HuBERT, XLS-R or wav2vec 2.0"
    try:
        pair: Any = AutoModel.from_pretrained(
            model,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=is_from_cache(model, "--model"),
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"{expected}; found: {first_line(error)}") from error
    loaded, info = pair
    if not hasattr(loaded, "_get_feat_extract_output_lengths") or not hasattr(
        loaded.config, "feat_extract_norm"
    ):
        raise UsageError(f"{expected}; found a {type(loaded).__name__}")
    missing = [name for name in info["missing_keys"] if "masked_spec_embed" not in name]  # for training alone
    if missing:
        raise UsageError(f"{expected}; its weights lack {sorted(missing)[:3]} and maybe more")
    layers = len(loaded.encoder.layers)
    if not 0 <= layer < layers:
        raise UsageError(f"--layer {layer}: {model} has {layers} layers, counted from 0")
    if loaded.config.hidden_size != width:
        raise UsageError(
            f"--kmeans: found centroids of {width} numbers; expected {loaded.config.hidden_size}, the width "
            f"of {model}"
        )
    loaded.encoder.layers = loaded.encoder.layers[: layer + 1]
    return loaded.eval()


def _load_preprocessor(model: str) -> Any:
    try:
        preprocessor: Any = Wav2Vec2FeatureExtractor.from_pretrained(
            model, local_files_only=is_from_cache(model, "--model")
        )
    except OSError:  # none lies beside the weights
        return Wav2Vec2FeatureExtractor(do_normalize=True)
    rate = preprocessor.sampling_rate
    if rate != SAMPLING_RATE:
        raise UsageError(f"--model {model}: hears {rate} Hz; expected {SAMPLING_RATE} Hz")
    return preprocessor


@dataclass(frozen=True)
class UnitEncoder:
    """A UnitExtractor as an encode.Encoder."""

    extractor: UnitExtractor
    sampling_rate: int = SAMPLING_RATE

    def encode(self, waves: Sequence[Float32]) -> list[Int32]:
        """Units int32 [F] of clips float32 [S]."""
        return self.extractor.units(waves)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opening:
    """Opens an extractor in any process."""

    model: str
    centroids: npt.NDArray[np.float32]
    layer: int
    device: str

    def __call__(self, _: Progress) -> Callable[[Sequence[Float32]], list[Int32]]:
        return KMeansUnits(self.model, self.centroids, self.layer, pick_device(self.device)).units


def run_units(options: argparse.Namespace, engine: Engine = HERE) -> EncodeReport:
    """Run `speechrows generate units`: the units of every clip that --source names."""
    elsewhere = device_of_workers(options.device, engine)
    device = pick_device("cpu" if elsewhere else options.device)
    batch_seconds = options.batch_seconds
    if batch_seconds is None:
        batch_seconds = BATCH_SECONDS[elsewhere or device.type]
    centroids = load_centroids(options.kmeans)
    clips = ClipSelection.of(options).clips(audio=True)  # what is wrong with them is said before models load
    extractor = KMeansUnits(options.model, centroids, options.layer, device)
    each = None
    if elsewhere:
        opening = _Opening(model=options.model, centroids=centroids, layer=options.layer, device=elsewhere)
        each = by_workers(engine, opening, options.model, elsewhere)
    recipe = {
        "kind": "units",
        "codec": extractor.name,
        "num_units": extractor.num_units,
        "rate_hz": str(extractor.rate_hz),
        "layer": options.layer,
        "weights": extractor.digest(),
        "resampled": RESAMPLER,
    }
    with SidecarWriter.open(options.out, recipe, overwrite=options.overwrite) as writer:
        return run(
            clips,
            writer,
            UnitEncoder(extractor),
            batch_seconds=batch_seconds,
            num_threads=min(16, os.cpu_count() or 1),
            each=each,
        )
