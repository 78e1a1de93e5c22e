"""Rewards of completions from a sequence-classification model."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from warmup_distill.errors import ModelError
from warmup_distill.models.loading import device, load_tokenizer, load_weights
from warmup_distill.models.templates import render_ids


class RewardModel:
    """A reward model with one output, from the hub or a folder.

    Raises:
        ModelError: it cannot be loaded or has more than one output.
    """

    def __init__(self, name: str, batch_size: int = 16) -> None:
        try:
            self.tokenizer: Any = load_tokenizer(name)
            model = load_weights(AutoModelForSequenceClassification, name)
        except ModelError as error:
            raise ModelError(f"pairs.reward_model: {error}") from error
        require_one_output(model, name)
        self.model = model.to(device()).eval()
        self.batch_size = batch_size

    @torch.inference_mode()
    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The reward of each completion of its prompt, in the model's own unit."""
        rows = [{"input_ids": self._ids(*row)} for row in zip(prompts, completions, strict=True)]
        padded: Any = DataCollatorWithPadding(self.tokenizer)
        rewards: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            batch = padded(rows[start : start + self.batch_size]).to(self.model.device)
            rewards += self.model(**batch).logits[:, 0].float().tolist()
        return rewards

    def _ids(self, prompt: str, completion: str) -> list[int]:
        """Ids of a prompt and its completion, whose texts control tokens are not among."""
        if not self.tokenizer.chat_template:
            text = f"{prompt}\n{completion}"
            encoded = self.tokenizer(text, truncation=True, split_special_tokens=True)
            return list(encoded["input_ids"])
        turns = [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]
        ids = render_ids(self.tokenizer, turns, {}, opened=False)
        return ids[: self.tokenizer.model_max_length]


def require_one_output(model: Any, name: str) -> None:
    """Raise a ModelError if a classification model gives more than one number."""
    if model.config.num_labels != 1:
        raise ModelError(
            f"pairs.reward_model {name} has {model.config.num_labels} outputs, expected one: "
            "take a model trained to give a reward."
        )
