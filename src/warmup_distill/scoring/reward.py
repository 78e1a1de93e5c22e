"""Rewards of completions from a sequence-classification model."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from warmup_distill.errors import ModelError
from warmup_distill.models.loading import device, load_tokenizer, load_weights


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
        texts = [self._render(*row) for row in zip(prompts, completions, strict=True)]
        rewards: list[float] = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.tokenizer(
                texts[start : start + self.batch_size],
                padding=True,
                truncation=True,
                return_tensors="pt",
                add_special_tokens=not self.tokenizer.chat_template,
            ).to(self.model.device)
            rewards += self.model(**batch).logits[:, 0].float().tolist()
        return rewards

    def _render(self, prompt: str, completion: str) -> str:
        if not self.tokenizer.chat_template:
            return f"{prompt}\n{completion}"
        turns = [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False))


def require_one_output(model: Any, name: str) -> None:
    """Raise a ModelError if a classification model gives more than one number."""
    if model.config.num_labels != 1:
        raise ModelError(
            f"pairs.reward_model {name} has {model.config.num_labels} outputs, expected one: "
            "take a model trained to give a reward."
        )
