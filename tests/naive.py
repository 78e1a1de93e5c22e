"""The naive reference: one sequence at a time, no cache, no padding, no sharing."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def completion_logits(model: PreTrainedModel, prompt: list[int], completion: list[int]) -> Tensor:
    """Logits [T, V] that predict each token of one completion."""
    logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
    return logits[len(prompt) - 1 : -1]


def logprobs(model: PreTrainedModel, prompt: list[int], completion: list[int]) -> Tensor:
    """log p of each token [T] of one completion."""
    logp = completion_logits(model, prompt, completion).log_softmax(-1)
    return logp[torch.arange(len(completion)), torch.tensor(completion)]
