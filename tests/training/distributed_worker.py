"""One of several processes that train together; started by test_distributed.py.

    RANK=… WORLD_SIZE=2 … python distributed_worker.py KIND FOLDER

Rank 0 writes the gradient's norm and the trained weights.
"""

import os
import sys
from pathlib import Path

import torch
from conftest import VOCABULARY_SIZE
from test_training import (
    distill_trainer,
    distill_trainer_by_rows,
    warmup_trainer,
    warmup_trainer_by_rows,
)

from warmup_distill.ledger.ran import Ran
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.ranks import of_all

TRAINERS = {
    "distill": distill_trainer,
    "distill_by_rows": distill_trainer_by_rows,
    "warmup": warmup_trainer,
    "warmup_by_rows": warmup_trainer_by_rows,
}


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    vocabulary = Vocabulary(size=VOCABULARY_SIZE, eos_ids=frozenset({1}), pad_id=0)
    trainer = TRAINERS[kind](vocabulary, folder, (2, 1))
    assert trainer.accelerator.num_processes == 2
    trainer.train()
    ran = Ran.total(of_all(trainer.ran.state())).state()
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        norms = [line["grad_norm"] for line in trainer.state.log_history if "loss" in line]
        torch.save((norms, model.state_dict(), ran), folder / "found.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo sometimes hangs while Python takes it down


if __name__ == "__main__":
    main()
