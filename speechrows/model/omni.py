"""The trained model: a SpeechLM, and an AudioHead where rows have codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import create_repo
from huggingface_hub import upload_folder
from safetensors.torch import save_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from speechrows.codec import CODECS
from speechrows.errors import StoreError
from speechrows.errors import first_line
from speechrows.loader.batch import Batch
from speechrows.loader.open_stream import checked_device
from speechrows.model import model_folder
from speechrows.model.audio_head import AudioHead
from speechrows.model.audio_head import AudioLoss
from speechrows.model.config import OmniConfig
from speechrows.model.frozen import FrozenInEval
from speechrows.model.model_card import model_card
from speechrows.model.presets import Preset
from speechrows.model.presets import speech_lm
from speechrows.model.shape import ModelShape
from speechrows.model.speech_lm import SpeechLM
from speechrows.model.speech_lm import SpeechLMOutput
from speechrows.storage.hub import check_reachable
from speechrows.text.tokenizers import open_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OmniOutput:
    """The losses of a batch: of its text, and of its codes if the model has an audio head."""

    text: SpeechLMOutput
    codec: AudioLoss | None

    def losses(self) -> Tensor:
        """float32 [3]: summed cross entropies of text, of codebook 0, of the other codebooks."""
        text = self.text.loss_sum
        zero = torch.zeros_like(text)
        codes = (zero, zero) if self.codec is None else (self.codec.semantic_sum, self.codec.depth_sum)
        return torch.stack((text, *codes))


def loss_counts(batch: Batch) -> Tensor:
    """float32 [3]: the tokens or codes in each of a batch's losses; known before a forward pass."""
    if batch.codec_targets is None:
        return torch.tensor([batch.num_supervised, 0, 0], dtype=torch.float32)
    clips, num_codebooks, _ = batch.codec_targets.shape
    frames = int(batch.codec_lengths.sum())
    return torch.tensor(
        [batch.num_supervised, frames + clips, frames * (num_codebooks - 1)], dtype=torch.float32
    )


class Omni(FrozenInEval):
    """A SpeechLM and its AudioHead in one forward pass, so that one wrapper (DDP) has all parameters."""

    def __init__(
        self,
        speech_lm: SpeechLM,
        audio_head: AudioHead | None,
        config: OmniConfig,
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        super().__init__()
        self.speech_lm = speech_lm
        self.audio_head = audio_head
        self.config = config
        self.tokenizer = tokenizer
        self.folder: Path | None = None  # that it was opened from

    def forward(self, batch: Batch, states: Sequence[Any] = ()) -> OmniOutput:
        """Run SpeechLM.forward, then AudioHead.forward."""
        text = self.speech_lm(batch, states)
        codec = None if self.audio_head is None else self.audio_head(text.hidden_states, batch)
        return OmniOutput(text=text, codec=codec)

    def save(self, folder: Path | str) -> None:
        """Write the model into a folder, which `load` reads on any machine.

        Raises:
            OSError: it can not be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self, str(folder / model_folder.WEIGHTS))
        model_folder.describe(folder, self.config, self.tokenizer)

    def push_to_hub(self, repository: str, *, private: bool = False) -> str:
        """Upload the model to the Hub, with a card of what it was trained on; its address.

        Raises:
            StoreError: the Hub can not be reached, or refuses.
        """
        check_reachable(f"{repository}: nothing was uploaded:")
        with TemporaryDirectory() as folder:
            self.save(folder)
            (Path(folder) / "README.md").write_text(model_card(self.config, self.folder), "utf-8")
            try:
                address = create_repo(repository, private=private, exist_ok=True)
                upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Upload a model")
            except (OSError, ValueError) as error:  # of the Hub, too
                raise StoreError(
                    f"{repository}: can not be uploaded ({first_line(error)}); expected org/name, and a "
                    "login that may write there: `hf auth login`"
                ) from error
        return str(address)

    @staticmethod
    def load(
        place: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "Omni":
        """Open a model that was saved, here or on the Hub, or the latest whole checkpoint of a run.

        Its weights are held in `dtype`; of a run with adapters they are those of the whole model, merged.

        Raises:
            UsageError: there is none, or it is damaged or of another version.
            StoreError: it is not here, and the Hub can not be reached.
        """
        device, folder = checked_device(device), model_folder.find(Path(place))
        config = OmniConfig.read(folder)
        tokenizer = open_tokenizer(str(folder / model_folder.TOKENIZER))
        # flex_attention is compiled anew for every length that a conversation has; sdpa computes the same.
        shape = config.shape
        shape = replace(shape, attention="sdpa") if shape.attention == "flex_attention" else shape
        model = omni(shape, tokenizer, config.codec, config.preset, dtype)
        model_folder.load_weights(model, folder, config)
        model.config, model.folder = replace(config, lora_scale=0.0), folder  # adapters are merged
        return model.to(device).eval()


def omni(
    shape: ModelShape,
    tokenizer: PreTrainedTokenizerFast,
    codec: str | None = None,
    preset: Preset | None = None,
    dtype: torch.dtype = torch.float32,
) -> Omni:
    """The model of a shape, with a head for `codec`; `preset`, in the place of the shape's own.

    Raises:
        UsageError: a model can not be opened, or has no block that a layer is to stand before.
    """
    preset = preset or shape.parts
    model = speech_lm(preset, tokenizer, dtype=dtype, attention=shape.attention)
    head: Any = model.lm.get_output_embeddings()
    width, heads = int(head.in_features), int(model.lm.config.num_attention_heads)
    model.attention_span = shape.span
    for block in shape.places:
        model.insert(shape.ttt(width, heads), before_block=block)
    encoder: Any = model.encoder
    opened = replace(preset, encoder=encoder.model.config, normalize=encoder.normalize, lm=model.lm.config)
    config = OmniConfig(shape=shape.alone(), preset=opened, codec=codec, mel=encoder.mel)
    audio_head = None
    if codec is not None:
        sizes = {"size": preset.head_size, "depth_size": preset.depth_size}
        audio_head = AudioHead(CODECS[codec], lm_size=width, **sizes)
    return Omni(model, audio_head, config, tokenizer).to(dtype)
