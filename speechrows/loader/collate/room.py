"""Room for the samples of batches: on the host, that of batches that are gone is used again."""

from weakref import finalize

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from speechrows.loader.buffers import Buffers

Float32 = npt.NDArray[np.float32]


class Room:
    """Gives room for samples. It can be pickled, without what it keeps."""

    def __init__(self) -> None:
        self._buffers: Buffers[Float32] = Buffers(_pageable)

    def take(self, num_clips: int, width: int, device: torch.device) -> Tensor:
        """Room for clips, or channels, float32 [num_clips, width], that has to be written."""
        if device.type != "cpu":
            return torch.empty(num_clips, width, device=device)
        buffer = self._buffers.take(num_clips * width)
        samples = buffer[: num_clips * width].reshape(num_clips, width)
        finalize(samples, self._buffers.lend(buffer)).atexit = False  # the tensor keeps `samples`
        return torch.from_numpy(samples)


def _pageable(num_samples: int) -> Float32:
    # numpy's large arrays lie in huge pages on Linux, torch's in pages of 4 KB: to map those takes longer
    # than to fill them.
    return np.empty(num_samples, np.float32)
