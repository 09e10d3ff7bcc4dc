"""The loss of a model at the learned places alone; knows no data and no optimizer."""

from typing import Any

import torch

from shared.errors import InvalidData
from trainer_service.head_loss import Score, head_loss, is_plain_head, plain_loss
from trainer_service.packing import Packing, Reader
from trainer_service.tokenizing import IGNORED


class SupervisedLoss:
    """The loss of a causal model: sum over the learned places of a batch.

    Rows are padded on the right, and attention is causal, so no learned place sees padding and no
    attention mask is needed.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings()
        self.direct = is_plain_head(self.head) and self._head_follows_decoder()
        self.read = Reader(model)
        self.packs = self.direct and self.read.packs

    def __call__(
        self, input_ids: torch.Tensor, labels: torch.Tensor, packing: Packing | None = None
    ) -> Score:
        learned = labels != IGNORED
        targets = labels[learned]
        if not self.direct:
            logits = self.model(input_ids=input_ids, use_cache=False).logits[learned]
            return plain_loss(logits, targets)
        hidden = self.read(input_ids, learned, packing)
        return head_loss(hidden, self.head.weight, self.head.bias, targets)

    @torch.no_grad()
    def _head_follows_decoder(self) -> bool:
        """Whether this architecture's logits are just head(decoder(x)): some scale or cap them."""
        if self.decoder is self.model:
            return False
        probe = torch.arange(8, device=self.model.device).unsqueeze(0)
        training = self.model.training
        self.model.eval()
        whole = self.model(input_ids=probe, use_cache=False).logits
        parts = self.head(self.decoder(input_ids=probe, use_cache=False).last_hidden_state)
        self.model.train(training)
        return _alike(parts, whole)


class Seq2SeqLoss:
    """The loss of an encoder-decoder: sum over all places of a batch's targets.

    Padding of sources is masked; padding of targets stands on the right, where the decoder's
    causal attention lets no learned place see it.
    """

    packs = False

    def __init__(self, model: Any) -> None:
        self.model = model
        self.encoder = model.get_encoder()
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings()
        self.start = decoder_start(model.config)
        self.scale = self._head_scale() if is_plain_head(self.head) else None

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> Score:
        learned = labels != IGNORED
        targets = labels[learned]
        begun = self._begun(labels)
        if self.scale is None:
            output = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                decoder_input_ids=begun,
                use_cache=False,
            )
            return plain_loss(output.logits[learned], targets)
        hidden = self._decoded(input_ids, attention_mask, begun)[learned]
        if self.scale != 1:
            hidden = hidden * self.scale
        return head_loss(hidden, self.head.weight, self.head.bias, targets)

    def _begun(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder reads: at each place the token before the one that it shall write."""
        begun = torch.full_like(labels, self.start)
        begun[:, 1:] = labels[:, :-1]
        return begun.masked_fill_(begun == IGNORED, self.start)

    def _decoded(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, begun: torch.Tensor
    ) -> torch.Tensor:
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        hidden: torch.Tensor = self.decoder(
            input_ids=begun,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state
        return hidden

    @torch.no_grad()
    def _head_scale(self) -> float | None:
        """What stands between decoder and head: nothing (1), or the scale of the first T5 models,
        whose head shares its weights with the embeddings. None where it is something else."""
        probe = torch.arange(8, device=self.model.device).unsqueeze(0)
        mask = torch.ones_like(probe)
        training = self.model.training
        self.model.eval()
        whole = self.model(
            input_ids=probe, attention_mask=mask, decoder_input_ids=probe, use_cache=False
        ).logits
        hidden = self._decoded(probe, mask, probe)
        width = hidden.shape[-1]
        scales = [scale for scale in (1.0, width**-0.5) if _alike(self.head(hidden * scale), whole)]
        self.model.train(training)
        return scales[0] if len(scales) == 1 else None


def decoder_start(config: Any) -> int:
    """The token that a decoder reads first; T5's is its padding."""
    start = getattr(config, "decoder_start_token_id", None)
    start = config.pad_token_id if start is None else start
    if start is None:
        raise InvalidData("The base model's config names no decoder_start_token_id.")
    return int(start)


def _alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    theirs = theirs.float()
    return bool((ours.float() - theirs).norm() <= 1e-3 * theirs.norm())


Loss = SupervisedLoss | Seq2SeqLoss


def loss_of(model: Any) -> Loss:
    """The loss that fits the model's family."""
    return Seq2SeqLoss(model) if model.config.is_encoder_decoder else SupervisedLoss(model)
