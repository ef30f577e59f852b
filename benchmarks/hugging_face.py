"""Hugging Face T5 with the weights of a TIGER: the peer that our decoder must equal, and is timed against."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from models.networks.tiger import Attention, FeedForward, Tiger


def as_hugging_face(tiger: Tiger) -> Any:
    """A `T5ForConditionalGeneration` with the weights of `tiger`; untyped, as transformers' own types do not hold."""
    c = tiger.config
    config_class: Any = T5Config
    config = config_class(
        vocab_size=c.vocabulary,
        d_model=c.d_model,
        d_kv=c.d_kv,
        d_ff=c.d_ff,
        num_layers=c.encoder_layers,
        num_decoder_layers=c.decoder_layers,
        num_heads=c.heads,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        pad_token_id=0,
        eos_token_id=c.end_token,
        decoder_start_token_id=0,
        tie_word_embeddings=True,
    )
    model: Any = T5ForConditionalGeneration(config)
    model.eval()
    missing, unexpected = model.load_state_dict(dict(_weights(tiger)), strict=False)
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    assert not unexpected
    assert set(missing) <= tied, missing
    model.tie_weights()
    return model


def _weights(tiger: Tiger) -> Iterator[tuple[str, Tensor]]:
    yield "shared.weight", tiger.encoder.embedding.weight
    for side, stack in (("encoder", tiger.encoder), ("decoder", tiger.decoder)):
        yield f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack.bias.weight
        yield f"{side}.final_layer_norm.weight", stack.norm.weight
    for i, encoder in enumerate(tiger.encoder.blocks):
        yield from _attention(f"encoder.block.{i}.layer.0", "SelfAttention", encoder.attention)
        yield from _feed_forward(f"encoder.block.{i}.layer.1", encoder.feed_forward)
    for i, decoder in enumerate(tiger.decoder.blocks):
        yield from _attention(f"decoder.block.{i}.layer.0", "SelfAttention", decoder.attention)
        yield from _attention(f"decoder.block.{i}.layer.1", "EncDecAttention", decoder.cross)
        yield from _feed_forward(f"decoder.block.{i}.layer.2", decoder.feed_forward)


def _feed_forward(prefix: str, layer: FeedForward) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}.layer_norm.weight", layer.norm.weight
    yield f"{prefix}.DenseReluDense.wi.weight", layer.inner.weight
    yield f"{prefix}.DenseReluDense.wo.weight", layer.outer.weight


def _attention(prefix: str, name: str, attention: Attention) -> Iterator[tuple[str, Tensor]]:
    keys, values = attention.key_value.weight.chunk(2)
    yield f"{prefix}.layer_norm.weight", attention.norm.weight
    yield f"{prefix}.{name}.q.weight", attention.query.weight
    yield f"{prefix}.{name}.k.weight", keys
    yield f"{prefix}.{name}.v.weight", values
    yield f"{prefix}.{name}.o.weight", attention.output.weight


class ConstrainedGenerate:
    """`generate` with a prefix trie over the catalogue, as dictionaries of token prefixes."""

    def __init__(self, tiger: Tiger, item_codes: Tensor) -> None:
        """Take the network and the semantic ids [N + 1, D] of its catalogue."""
        self.tiger, self.item_codes = tiger, item_codes
        self.model = as_hugging_face(tiger)
        tokens = map(tuple, tiger.code_tokens(item_codes[1:]).tolist())
        self._item_of = {prefix: index for index, prefix in enumerate(tokens, start=1)}
        children: dict[tuple[int, ...], set[int]] = {}
        for item in self._item_of:
            for depth in range(len(item)):
                children.setdefault(item[:depth], set()).add(item[depth])
        self._children = {prefix: sorted(codes) for prefix, codes in children.items()}

    def to(self, device: str) -> None:
        """Move the model; histories come on the same device then, and items and scores go back to the CPU."""
        self.model.to(device)
        self.item_codes = self.item_codes.to(device)

    def __call__(self, history: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """Items and scores [B, beams] of histories [B, L]."""
        levels = self.tiger.config.levels
        tokens, real = self.tiger.encoder.tokens(history, self.item_codes)
        output = self.model.generate(
            input_ids=tokens,
            attention_mask=real.long(),
            num_beams=beams,
            num_return_sequences=beams,
            min_new_tokens=levels,
            max_new_tokens=levels,
            length_penalty=0.0,
            do_sample=False,
            prefix_allowed_tokens_fn=lambda _, prefix: self._children[tuple(prefix[1:].tolist())],
            return_dict_in_generate=True,
            output_scores=True,
        )
        items = torch.tensor([self._item_of[tuple(sequence[1:])] for sequence in output.sequences.tolist()])
        return items.view(-1, beams), output.sequences_scores.view(-1, beams).cpu()
